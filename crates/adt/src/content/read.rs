//! From a parsed message to its content: one pass over the segments, one over each field's parts.
//!
//! | file | what it reads |
//! |---|---|
//! | this one | the message: its blocks, one per patient |
//! | `person`, `visit`, `groups` | segments |
//! | `identifier`, `name`, `contact` | data types |
//! | `field`, `text`, `signs` | presence and repetition; leaves; signs that no name has |

mod contact;
mod field;
mod groups;
mod identifier;
mod name;
mod person;
mod signs;
mod text;
mod visit;

use hilum_core::InstallationKey;
use hilum_hl7v2::{Message, Path};

use self::groups::Groups;
use self::identifier::Authority;
use crate::content::person::PersonContent;
use crate::content::time::Zones;
use crate::content::{Block, Content, Finding};
use crate::limits::BLOCKS_MAX;
use crate::settings::SourceSettings;

pub use self::identifier::{is_national, national_hash};

/// What reading depends on beside the message.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The settings of the source that applied.
    pub settings: &'a SourceSettings,
    /// The source's name.
    pub source: &'a str,
    /// Keys the hashes of national numbers and of items.
    pub key: &'a InstallationKey,
}

impl Content {
    /// Reads what `message` says. Never fails: what cannot be read is a finding.
    pub fn read(message: &Message, context: &Context<'_>) -> Self {
        let mut reader = Reader::new(message, context);
        let blocks = reader.blocks(message);
        Self { blocks, findings: reader.findings }
    }
}

struct Reader<'a> {
    settings: &'a SourceSettings,
    key: &'a InstallationKey,
    zones: Zones,
    /// The authority of what names none.
    assumed_authority: String,
    /// Whether that is no more than the source's name.
    guesses_authority: bool,
    /// The facility of a place that names none.
    assumed_facility: String,
    findings: Vec<Finding>,
}

/// Where the second PV1, PV2 … of one patient would go: nowhere.
const REPEATED: &str = "a second one for the same patient: only the first is read";

impl<'a> Reader<'a> {
    fn new(message: &Message, context: &Context<'a>) -> Self {
        let msh = message.segment("MSH");
        let msh7 = msh.and_then(|msh| msh.value(7, 1));
        let mut reader = Self {
            settings: context.settings,
            key: context.key,
            zones: Zones::of(msh7.as_deref(), &context.settings.zone),
            assumed_authority: String::new(),
            guesses_authority: false,
            assumed_facility: String::new(),
            findings: Vec::new(),
        };
        let facility = msh.map_or_else(Authority::default, |msh| {
            reader.authority(msh.field(4).components(), Path::of("MSH-4"))
        });
        let (facility_authority, _) = reader.canonical(&facility);
        let own = context.settings.authority.clone().unwrap_or_default();
        let first =
            |names: [&str; 3]| names.into_iter().find(|name| !name.is_empty()).unwrap_or_default().to_owned();
        reader.assumed_authority = first([&own, &facility_authority, context.source]);
        reader.guesses_authority = own.is_empty() && facility_authority.is_empty();
        reader.assumed_facility = first([&reader.facility_name(&facility), &own, context.source]);
        reader
    }

    fn blocks(&mut self, message: &Message) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::with_capacity(1);
        let mut groups = Groups::default();
        let mut seen = [0_u32; SEGMENTS.len()];
        for segment in message.all_segments() {
            let Some(which) = SEGMENTS.iter().position(|name| segment.is(name)) else { continue };
            let Some(count) = seen.get_mut(which) else { continue };
            *count += 1;
            let name = SEGMENTS.get(which).copied().unwrap_or("PID");
            let mut bytes = [0; 3];
            bytes.copy_from_slice(name.as_bytes());
            let path = Path::segment_only(bytes).with_occurrence(*count);
            let starts =
                name == "PID" || (name == "MRG" && blocks.last().is_some_and(|block| block.prior.is_some()));
            if starts {
                if let Some(block) = blocks.last_mut() {
                    self.close(block, &mut groups);
                }
                if blocks.len() == BLOCKS_MAX {
                    self.find("patients-too-many", path, "more patients in one message than are read");
                    return blocks;
                }
                // A45 moves several visits of one patient: each MRG has its own PV1, and all have the PID.
                let person = match (name, blocks.last()) {
                    ("MRG", Some(last)) => last.person.clone(),
                    _ => PersonContent::default(),
                };
                blocks.push(Block { person, ..Block::default() });
            }
            let Some(block) = blocks.last_mut() else {
                self.find("segment-no-patient", path, "stands before any PID");
                continue;
            };
            match name {
                "PID" => self.pid(segment, path, block, &mut groups),
                "PD1" => self.pd1(segment, path, &mut block.person),
                "MRG" => block.prior = Some(self.mrg(segment, path)),
                "PV1" if block.visit.is_none() => self.pv1(segment, path, block, &mut groups),
                "PV2" if !groups.has_pv2 => {
                    groups.has_pv2 = true;
                    self.pv2(segment, path, block);
                }
                "PV1" | "PV2" => self.find("segment-repeated", path, REPEATED),
                "ARV" => self.arv(segment, path, block),
                "NK1" => groups.next_of_kin.push((segment, path)),
                "AL1" => groups.allergies.push((segment, path)),
                "IAM" => groups.adverse_reactions.push((segment, path)),
                "IAR" => {
                    let of = groups.adverse_reactions.last().map(|(_, iam)| iam.occurrence());
                    groups.reactions.extend(of.map(|iam| (iam, segment, path)));
                }
                _ => groups.diagnoses.push((segment, path)),
            }
        }
        if let Some(block) = blocks.last_mut() {
            self.close(block, &mut groups);
        }
        blocks
    }
}

/// The segments that are read.
const SEGMENTS: [&str; 11] = ["PID", "PD1", "MRG", "PV1", "PV2", "ARV", "NK1", "AL1", "IAM", "IAR", "DG1"];
