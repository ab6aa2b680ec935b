//! HL7 v2: delimiter index, charsets, trigger events, acknowledgments, MLLP framing.
