//! Decimals of any length and exponent, in bytes whose order is that of the numbers.

use std::cmp::Ordering;
use std::num::NonZeroU32;

/// Digits that count; what is behind them is cut off.
const DIGITS_MAX: usize = 40;
/// Digits of a quotient, at least: more than a decimal keeps, so that it cuts all alike.
const QUOTIENT_DIGITS: usize = DIGITS_MAX + 2;
/// The largest power of ten; what is beyond counts as this.
const EXPONENT_MAX: i32 = 9_999;

/// A decimal as it was written: `5.40` has three digits.
///
/// ```
/// use hilum_fhir::search::number::Decimal;
/// let written = Decimal::parse("5.40").unwrap();
/// let (low, high) = written.implicit();
/// assert!(Decimal::parse("5.395").unwrap().ordered() == low.ordered());
/// assert!(Decimal::parse("5.405").unwrap().ordered() == high.ordered());
/// assert!(Decimal::parse("5.4e0").unwrap().ordered() == written.ordered());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// From the first that is written, zeros at the end kept; none at the beginning.
    digits: Vec<u8>,
    /// The power of ten behind the last digit.
    exponent: i32,
}

/// A number as the index keeps it: bytes that compare as the numbers do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordered(Vec<u8>);

impl Ordered {
    /// Less than all numbers: the end of a range that has none.
    pub fn least() -> Self {
        Self(vec![0])
    }

    /// Greater than all numbers.
    pub fn greatest() -> Self {
        Self(vec![4])
    }

    /// As they are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Decimal {
    /// Reads `-12.50`, `1e3`, `+7`.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() == 0 {
            return None;
        }
        let digits = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0');
        let digits: Vec<u8> = digits.skip_while(|digit| *digit == 0).collect();
        let behind = i32::try_from(fraction.len()).ok()?;
        let mut read = Self { negative, digits, exponent: exponent.saturating_sub(behind) };
        read.bound();
        Some(read)
    }

    fn bound(&mut self) {
        if self.digits.len() > DIGITS_MAX {
            self.exponent += (self.digits.len() - DIGITS_MAX) as i32;
            self.digits.truncate(DIGITS_MAX);
        }
        self.exponent = self.exponent.clamp(-EXPONENT_MAX, EXPONENT_MAX);
    }

    /// The bounds of what rounds to it: half a unit of the last digit below and above.
    #[must_use]
    pub fn implicit(&self) -> (Self, Self) {
        let half = Self { negative: false, digits: vec![5], exponent: self.exponent - 1 };
        (self.plus(&half.negated()), self.plus(&half))
    }

    /// The bounds of what is about as much (`ap`): a tenth of it below and above.
    #[must_use]
    pub fn about(&self) -> (Self, Self) {
        let tenth = Self { negative: false, digits: self.digits.clone(), exponent: self.exponent - 1 };
        (self.plus(&tenth.negated()), self.plus(&tenth))
    }

    fn negated(&self) -> Self {
        Self { negative: !self.negative, ..self.clone() }
    }

    /// The sum; of numbers very far apart the larger one.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let exponent = self.exponent.min(other.exponent);
        let width = |one: &Self| one.digits.len() + one.exponent.abs_diff(exponent) as usize;
        if width(self).max(width(other)) > 2 * DIGITS_MAX {
            return if self.magnitude(other) == Ordering::Less { other.clone() } else { self.clone() };
        }
        let (one, two) = (self.scaled(exponent), other.scaled(exponent));
        let (negative, digits) = if self.negative == other.negative {
            (self.negative, add(&one, &two))
        } else if compare(&one, &two) == Ordering::Less {
            (other.negative, subtract(&two, &one))
        } else {
            (self.negative, subtract(&one, &two))
        };
        let mut sum = Self { negative, digits, exponent };
        sum.bound();
        sum
    }

    /// The product.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        let mut digits = vec![0_u32; self.digits.len() + other.digits.len()];
        for (at, one) in self.digits.iter().rev().enumerate() {
            for (behind, two) in other.digits.iter().rev().enumerate() {
                if let Some(place) = digits.get_mut(at + behind) {
                    *place += u32::from(*one) * u32::from(*two);
                }
            }
        }
        let mut carry = 0;
        for place in &mut digits {
            let sum = *place + carry;
            (*place, carry) = (sum % 10, sum / 10);
        }
        let digits = digits.into_iter().rev().map(|digit| digit as u8).skip_while(|digit| *digit == 0);
        let exponent = self.exponent + other.exponent;
        let mut product =
            Self { negative: self.negative != other.negative, digits: digits.collect(), exponent };
        product.bound();
        product
    }

    /// The quotient, cut behind the digits that a decimal keeps.
    #[must_use]
    pub fn over(&self, denominator: NonZeroU32) -> Self {
        let denominator = u64::from(denominator.get());
        let (mut digits, mut exponent, mut rest) = (Vec::new(), self.exponent, 0);
        let mut written = self.digits.iter();
        loop {
            let digit = written.next();
            let is_enough = rest == 0 || digits.len() >= QUOTIENT_DIGITS;
            if digit.is_none() && is_enough {
                break;
            }
            exponent -= i32::from(digit.is_none());
            rest = rest * 10 + u64::from(digit.copied().unwrap_or_default());
            let quotient = (rest / denominator) as u8;
            if quotient > 0 || !digits.is_empty() {
                digits.push(quotient);
            }
            rest %= denominator;
        }
        let mut quotient = Self { negative: self.negative, digits, exponent };
        quotient.bound();
        quotient
    }

    /// The digits, and as many zeros as `exponent` asks for.
    fn scaled(&self, exponent: i32) -> Vec<u8> {
        let mut digits = self.digits.clone();
        digits.extend(std::iter::repeat_n(0, self.exponent.abs_diff(exponent) as usize));
        digits
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        let place = |one: &Self| (!one.digits.is_empty(), one.digits.len() as i32 + one.exponent);
        place(self).cmp(&place(other)).then_with(|| self.digits.cmp(&other.digits))
    }

    /// As the index keeps it: sign, place of the first digit, pairs of digits; of a negative number all but the sign
    /// complemented, with an end that is above every pair.
    pub fn ordered(&self) -> Ordered {
        let end = self.digits.iter().rposition(|digit| *digit != 0).map_or(0, |at| at + 1);
        let digits = self.digits.get(..end).unwrap_or_default();
        if digits.is_empty() {
            return Ordered(vec![2]);
        }
        let place = self.digits.len() as i32 + self.exponent + 2 * EXPONENT_MAX;
        let place = place.clamp(0, i32::from(u16::MAX)) as u16;
        let mut bytes: Vec<u8> = place.to_be_bytes().to_vec();
        bytes.extend(digits.chunks(2).map(|pair| match pair {
            [tens, ones] => tens * 10 + ones,
            [tens] => tens * 10,
            _ => 0,
        }));
        if self.negative {
            for byte in &mut bytes {
                *byte = !*byte;
            }
            bytes.push(u8::MAX);
        }
        bytes.insert(0, if self.negative { 1 } else { 3 });
        Ordered(bytes)
    }
}

fn exponent_of(text: &str) -> Option<i32> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(sign * digits.parse().unwrap_or(EXPONENT_MAX * 2).min(EXPONENT_MAX * 2))
}

fn compare(one: &[u8], two: &[u8]) -> Ordering {
    one.len().cmp(&two.len()).then_with(|| one.cmp(two))
}

fn add(one: &[u8], two: &[u8]) -> Vec<u8> {
    let mut sum = Vec::with_capacity(one.len().max(two.len()) + 1);
    let (mut one, mut two, mut carry) = (one.iter().rev(), two.iter().rev(), 0);
    loop {
        let (a, b) = (one.next(), two.next());
        if a.is_none() && b.is_none() && carry == 0 {
            break;
        }
        let digit = a.copied().unwrap_or_default() + b.copied().unwrap_or_default() + carry;
        sum.push(digit % 10);
        carry = digit / 10;
    }
    sum.reverse();
    sum
}

/// `one` is the greater.
fn subtract(one: &[u8], two: &[u8]) -> Vec<u8> {
    let mut rest = Vec::with_capacity(one.len());
    let (mut two, mut borrow) = (two.iter().rev(), 0);
    for a in one.iter().rev() {
        let take = two.next().copied().unwrap_or_default() + borrow;
        borrow = u8::from(*a < take);
        rest.push(a + 10 * borrow - take);
    }
    rest.reverse();
    rest.into_iter().skip_while(|digit| *digit == 0).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn bytes_are_in_the_order_of_the_numbers() {
        let rising = [
            "-1e99",
            "-100",
            "-99.5",
            "-10",
            "-1.01",
            "-1",
            "-0.51",
            "-0.501",
            "-0.5",
            "-1e-9",
            "0",
            "1e-9",
            "0.05",
            "0.5",
            "0.501",
            "0.51",
            "1",
            "1.0000000000000000000000001",
            "1.01",
            "9",
            "10",
            "99.5",
            "100",
            "1e99",
        ];
        for (one, two) in rising.iter().zip(rising.iter().skip(1)) {
            assert!(of(one).ordered() < of(two).ordered(), "{one} < {two}");
        }
        assert!(Ordered::least() < of("-1e9999").ordered() && of("1e9999").ordered() < Ordered::greatest());
        for same in [["1", "1.0"], ["100", "1e2"], ["-0.50", "-5e-1"], ["0", "-0.00"], ["007", "7"]] {
            assert_eq!(of(same[0]).ordered(), of(same[1]).ordered(), "{same:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_none_and_what_is_too_long_is_cut() {
        for text in ["", "-", ".", "1e", "1e-", "0x1", "1.2.3", " 1", "１", "NaN", "--1"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        let (huge, tiny) = (of("1e999999999999"), of("1e-999999999999"));
        assert!(of("1e999").ordered() < huge.ordered() && of("0").ordered() < tiny.ordered());
        assert!(tiny.ordered() < of("1e-999").ordered());
        let long = "9".repeat(64);
        assert!(of(&long).ordered().as_bytes().len() <= 24);
        assert_eq!(huge.plus(&tiny).ordered(), huge.ordered());
    }

    #[test]
    fn precision_is_what_was_written() {
        let cases = [
            ("100", "99.5", "100.5"),
            ("100.00", "99.995", "100.005"),
            ("1e2", "50", "150"),
            ("5.4", "5.35", "5.45"),
            ("-5.4", "-5.45", "-5.35"),
            ("0", "-0.5", "0.5"),
            ("0.0", "-0.05", "0.05"),
        ];
        for (written, low, high) in cases {
            let (least, most) = of(written).implicit();
            assert_eq!(
                (least.ordered(), most.ordered()),
                (of(low).ordered(), of(high).ordered()),
                "{written}"
            );
        }
        let (low, high) = of("-10").about();
        assert_eq!((high.ordered(), low.ordered()), (of("-9").ordered(), of("-11").ordered()));
        assert_eq!(of("453.59237").times(&of("-0.002")).ordered(), of("-0.90718474").ordered());
    }

    #[test]
    fn a_quotient_is_cut_in_one_place() {
        let third = format!("0.{}", "3".repeat(DIGITS_MAX));
        let cases = [
            ("1", 3, third.as_str()),
            ("1.000", 3, &third),
            ("-60", 60, "-1"),
            ("0.5", 4, "0.125"),
            ("1e-9", 39_447, "2.535047025122316018962151747914923821836e-14"),
            ("0.00", 7, "0"),
        ];
        for (number, denominator, want) in cases {
            let quotient = of(number).over(NonZeroU32::new(denominator).unwrap());
            assert_eq!(quotient.ordered(), of(want).ordered(), "{number} / {denominator}");
        }
    }
}
