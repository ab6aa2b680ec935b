//! What the fields of a segment are called (v2.8), for the page that shows a message.

/// A segment's fields, by number from 1.
struct Fields {
    segment: &'static str,
    title: &'static str,
    names: &'static [&'static str],
}

/// Sorted by segment.
#[rustfmt::skip]
const SEGMENTS: &[Fields] = &[
    Fields { segment: "ACC", title: "Accident", names: &[
        "Accident Date/Time", "Accident Code", "Accident Location", "Auto Accident State",
        "Accident Job Related Indicator", "Accident Death Indicator", "Entered By", "Accident Description",
        "Brought In By", "Police Notified Indicator", "Accident Address", "Degree of Patient Liability",
        "Accident Identifier",
    ] },
    Fields { segment: "AL1", title: "Allergy", names: &[
        "Set ID", "Allergen Type Code", "Allergen Code/Mnemonic/Description", "Allergy Severity Code",
        "Allergy Reaction Code", "Identification Date",
    ] },
    Fields { segment: "ARV", title: "Access restriction", names: &[
        "Set ID", "Access Restriction Action Code", "Access Restriction Value", "Access Restriction Reason",
        "Special Access Restriction Instructions", "Access Restriction Date Range",
        "Security Classification Tag", "Security Handling Instructions",
        "Access Restriction Message Location", "Access Restriction Instance Identifier",
    ] },
    Fields { segment: "DB1", title: "Disability", names: &[
        "Set ID", "Disabled Person Code", "Disabled Person Identifier", "Disability Indicator",
        "Disability Start Date", "Disability End Date", "Disability Return to Work Date",
        "Disability Unable to Work Date",
    ] },
    Fields { segment: "DG1", title: "Diagnosis", names: &[
        "Set ID", "Diagnosis Coding Method", "Diagnosis Code", "Diagnosis Description",
        "Diagnosis Date/Time", "Diagnosis Type", "Major Diagnostic Category", "Diagnostic Related Group",
        "DRG Approval Indicator", "DRG Grouper Review Code", "Outlier Type", "Outlier Days", "Outlier Cost",
        "Grouper Version And Type", "Diagnosis Priority", "Diagnosing Clinician",
        "Diagnosis Classification", "Confidential Indicator", "Attestation Date/Time",
        "Diagnosis Identifier", "Diagnosis Action Code", "Parent Diagnosis", "DRG CCL Value Code",
        "DRG Grouping Usage", "DRG Diagnosis Determination Status", "Present On Admission (POA) Indicator",
    ] },
    Fields { segment: "ERR", title: "Error", names: &[
        "Error Code and Location", "Error Location", "HL7 Error Code", "Severity", "Application Error Code",
        "Application Error Parameter", "Diagnostic Information", "User Message", "Inform Person Indicator",
        "Override Type", "Override Reason Code", "Help Desk Contact Point",
    ] },
    Fields { segment: "EVN", title: "Event type", names: &[
        "Event Type Code", "Recorded Date/Time", "Date/Time Planned Event", "Event Reason Code",
        "Operator ID", "Event Occurred", "Event Facility",
    ] },
    Fields { segment: "GT1", title: "Guarantor", names: &[
        "Set ID", "Guarantor Number", "Guarantor Name", "Guarantor Spouse Name", "Guarantor Address",
        "Guarantor Phone Number - Home", "Guarantor Phone Number - Business",
        "Guarantor Date/Time of Birth", "Guarantor Administrative Sex", "Guarantor Type",
        "Guarantor Relationship", "Guarantor SSN", "Guarantor Date - Begin", "Guarantor Date - End",
        "Guarantor Priority", "Guarantor Employer Name", "Guarantor Employer Address",
        "Guarantor Employer Phone Number", "Guarantor Employee ID Number", "Guarantor Employment Status",
        "Guarantor Organization Name", "Guarantor Billing Hold Flag", "Guarantor Credit Rating Code",
        "Guarantor Death Date and Time", "Guarantor Death Flag", "Guarantor Charge Adjustment Code",
        "Guarantor Household Annual Income", "Guarantor Household Size", "Guarantor Employer ID Number",
        "Guarantor Marital Status Code", "Guarantor Hire Effective Date", "Employment Stop Date",
        "Living Dependency", "Ambulatory Status", "Citizenship", "Primary Language", "Living Arrangement",
        "Publicity Code", "Protection Indicator", "Student Indicator", "Religion", "Mother's Maiden Name",
        "Nationality", "Ethnic Group", "Contact Person's Name", "Contact Person's Telephone Number",
        "Contact Reason", "Contact Relationship", "Job Title", "Job Code/Class",
        "Guarantor Employer's Organization Name", "Handicap", "Job Status", "Guarantor Financial Class",
        "Guarantor Race", "Guarantor Birth Place", "VIP Indicator",
    ] },
    Fields { segment: "IAM", title: "Adverse reaction", names: &[
        "Set ID", "Allergen Type Code", "Allergen Code/Mnemonic/Description", "Allergy Severity Code",
        "Allergy Reaction Code", "Allergy Action Code", "Allergy Unique Identifier", "Action Reason",
        "Sensitivity to Causative Agent Code", "Allergen Group Code/Mnemonic/Description", "Onset Date",
        "Onset Date Text", "Reported Date/Time", "Reported By", "Relationship to Patient",
        "Alert Device Code", "Allergy Clinical Status", "Statused by Person", "Statused by Organization",
        "Statused at Date/Time", "Inactivated by Person", "Inactivated Date/Time",
        "Initially Recorded by Person", "Initially Recorded Date/Time", "Modified by Person",
        "Modified Date/Time", "Clinician Identified Code", "Initially Recorded by Organization",
        "Modified by Organization", "Inactivated by Organization",
    ] },
    Fields { segment: "IN1", title: "Insurance", names: &[
        "Set ID", "Health Plan ID", "Insurance Company ID", "Insurance Company Name",
        "Insurance Company Address", "Insurance Co Contact Person", "Insurance Co Phone Number",
        "Group Number", "Group Name", "Insured's Group Emp ID", "Insured's Group Emp Name",
        "Plan Effective Date", "Plan Expiration Date", "Authorization Information", "Plan Type",
        "Name Of Insured", "Insured's Relationship To Patient", "Insured's Date Of Birth",
        "Insured's Address", "Assignment Of Benefits", "Coordination Of Benefits", "Coord Of Ben. Priority",
        "Notice Of Admission Flag", "Notice Of Admission Date", "Report Of Eligibility Flag",
        "Report Of Eligibility Date", "Release Information Code", "Pre-Admit Cert (PAC)",
        "Verification Date/Time", "Verification By", "Type Of Agreement Code", "Billing Status",
        "Lifetime Reserve Days", "Delay Before L.R. Day", "Company Plan Code", "Policy Number",
        "Policy Deductible", "Policy Limit - Amount", "Policy Limit - Days", "Room Rate - Semi-Private",
        "Room Rate - Private", "Insured's Employment Status", "Insured's Administrative Sex",
        "Insured's Employer's Address", "Verification Status", "Prior Insurance Plan ID", "Coverage Type",
        "Handicap", "Insured's ID Number", "Signature Code", "Signature Code Date", "Insured's Birth Place",
        "VIP Indicator", "External Health Plan Identifiers", "Insurance Action Code",
    ] },
    Fields { segment: "MRG", title: "Merge", names: &[
        "Prior Patient Identifier List", "Prior Alternate Patient ID", "Prior Patient Account Number",
        "Prior Patient ID", "Prior Visit Number", "Prior Alternate Visit ID", "Prior Patient Name",
    ] },
    Fields { segment: "MSA", title: "Acknowledgment", names: &[
        "Acknowledgment Code", "Message Control ID", "Text Message", "Expected Sequence Number",
        "Delayed Acknowledgment Type", "Error Condition", "Message Waiting Number",
        "Message Waiting Priority",
    ] },
    Fields { segment: "MSH", title: "Message header", names: &[
        "Field Separator", "Encoding Characters", "Sending Application", "Sending Facility",
        "Receiving Application", "Receiving Facility", "Date/Time of Message", "Security", "Message Type",
        "Message Control ID", "Processing ID", "Version ID", "Sequence Number", "Continuation Pointer",
        "Accept Acknowledgment Type", "Application Acknowledgment Type", "Country Code", "Character Set",
        "Principal Language Of Message", "Alternate Character Set Handling Scheme",
        "Message Profile Identifier", "Sending Responsible Organization",
        "Receiving Responsible Organization", "Sending Network Address", "Receiving Network Address",
        "Security Classification Tag", "Security Handling Instructions",
        "Special Access Restriction Instructions",
    ] },
    Fields { segment: "NK1", title: "Next of kin", names: &[
        "Set ID", "Name", "Relationship", "Address", "Phone Number", "Business Phone Number",
        "Contact Role", "Start Date", "End Date", "Next of Kin / Associated Parties Job Title",
        "Next of Kin / Associated Parties Job Code/Class",
        "Next of Kin / Associated Parties Employee Number", "Organization Name", "Marital Status",
        "Administrative Sex", "Date/Time of Birth", "Living Dependency", "Ambulatory Status", "Citizenship",
        "Primary Language", "Living Arrangement", "Publicity Code", "Protection Indicator",
        "Student Indicator", "Religion", "Mother's Maiden Name", "Nationality", "Ethnic Group",
        "Contact Reason", "Contact Person's Name", "Contact Person's Telephone Number",
        "Contact Person's Address", "Next of Kin/Associated Party's Identifiers", "Job Status", "Race",
        "Handicap", "Contact Person Social Security Number", "Next of Kin Birth Place", "VIP Indicator",
        "Next of Kin Telecommunication Information", "Contact Person's Telecommunication Information",
    ] },
    Fields { segment: "NPU", title: "Bed status update", names: &[
        "Bed Location", "Bed Status",
    ] },
    Fields { segment: "NTE", title: "Note", names: &[
        "Set ID", "Source of Comment", "Comment", "Comment Type", "Entered By", "Entered Date/Time",
        "Effective Start Date", "Expiration Date", "Coded Comment",
    ] },
    Fields { segment: "OBR", title: "Observation request", names: &[
        "Set ID", "Placer Order Number", "Filler Order Number", "Universal Service Identifier", "Priority",
        "Requested Date/Time", "Observation Date/Time", "Observation End Date/Time", "Collection Volume",
        "Collector Identifier", "Specimen Action Code", "Danger Code", "Relevant Clinical Information",
        "Specimen Received Date/Time", "Specimen Source", "Ordering Provider",
        "Order Callback Phone Number", "Placer Field 1", "Placer Field 2", "Filler Field 1",
        "Filler Field 2", "Results Rpt/Status Chng - Date/Time", "Charge to Practice",
        "Diagnostic Serv Sect ID", "Result Status", "Parent Result", "Quantity/Timing", "Result Copies To",
        "Parent Results Observation Identifier", "Transportation Mode", "Reason for Study",
        "Principal Result Interpreter", "Assistant Result Interpreter", "Technician", "Transcriptionist",
        "Scheduled Date/Time", "Number of Sample Containers", "Transport Logistics of Collected Sample",
        "Collector's Comment", "Transport Arrangement Responsibility", "Transport Arranged",
        "Escort Required", "Planned Patient Transport Comment", "Procedure Code", "Procedure Code Modifier",
        "Placer Supplemental Service Information", "Filler Supplemental Service Information",
        "Medically Necessary Duplicate Procedure Reason", "Result Handling",
        "Parent Universal Service Identifier", "Observation Group ID", "Parent Observation Group ID",
        "Alternate Placer Order Number", "Parent Order",
    ] },
    Fields { segment: "OBX", title: "Observation", names: &[
        "Set ID", "Value Type", "Observation Identifier", "Observation Sub-ID", "Observation Value",
        "Units", "References Range", "Interpretation Codes", "Probability", "Nature of Abnormal Test",
        "Observation Result Status", "Effective Date of Reference Range", "User Defined Access Checks",
        "Date/Time of the Observation", "Producer's ID", "Responsible Observer", "Observation Method",
        "Equipment Instance Identifier", "Date/Time of the Analysis", "Observation Site",
        "Observation Instance Identifier", "Mood Code", "Performing Organization Name",
        "Performing Organization Address", "Performing Organization Medical Director",
        "Patient Results Release Category", "Root Cause", "Local Process Control", "Observation Type",
        "Observation Sub-Type", "Action Code", "Observation Value Absent Reason",
        "Observation Related Specimen Identifier",
    ] },
    Fields { segment: "PD1", title: "Additional demographics", names: &[
        "Living Dependency", "Living Arrangement", "Patient Primary Facility",
        "Patient Primary Care Provider Name & ID No.", "Student Indicator", "Handicap", "Living Will Code",
        "Organ Donor Code", "Separate Bill", "Duplicate Patient", "Publicity Code", "Protection Indicator",
        "Protection Indicator Effective Date", "Place of Worship", "Advance Directive Code",
        "Immunization Registry Status", "Immunization Registry Status Effective Date",
        "Publicity Code Effective Date", "Military Branch", "Military Rank/Grade", "Military Status",
        "Advance Directive Last Verified Date",
    ] },
    Fields { segment: "PDA", title: "Death and autopsy", names: &[
        "Death Cause Code", "Death Location", "Death Certified Indicator",
        "Death Certificate Signed Date/Time", "Death Certified By", "Autopsy Indicator",
        "Autopsy Start and End Date/Time", "Autopsy Performed By", "Coroner Indicator",
    ] },
    Fields { segment: "PID", title: "Patient identification", names: &[
        "Set ID", "Patient ID", "Patient Identifier List", "Alternate Patient ID", "Patient Name",
        "Mother's Maiden Name", "Date/Time of Birth", "Administrative Sex", "Patient Alias", "Race",
        "Patient Address", "County Code", "Phone Number - Home", "Phone Number - Business",
        "Primary Language", "Marital Status", "Religion", "Patient Account Number", "SSN Number - Patient",
        "Driver's License Number - Patient", "Mother's Identifier", "Ethnic Group", "Birth Place",
        "Multiple Birth Indicator", "Birth Order", "Citizenship", "Veterans Military Status", "Nationality",
        "Patient Death Date and Time", "Patient Death Indicator", "Identity Unknown Indicator",
        "Identity Reliability Code", "Last Update Date/Time", "Last Update Facility",
        "Taxonomic Classification Code", "Breed Code", "Strain", "Production Class Code",
        "Tribal Citizenship", "Patient Telecommunication Information",
    ] },
    Fields { segment: "PR1", title: "Procedure", names: &[
        "Set ID", "Procedure Coding Method", "Procedure Code", "Procedure Description",
        "Procedure Date/Time", "Procedure Functional Type", "Procedure Minutes", "Anesthesiologist",
        "Anesthesia Code", "Anesthesia Minutes", "Surgeon", "Procedure Practitioner", "Consent Code",
        "Procedure Priority", "Associated Diagnosis Code", "Procedure Code Modifier", "Procedure DRG Type",
        "Tissue Type Code", "Procedure Identifier", "Procedure Action Code",
        "DRG Procedure Determination Status", "DRG Procedure Relevance", "Treating Organizational Unit",
        "Respiratory Within Surgery", "Parent Procedure ID",
    ] },
    Fields { segment: "PV1", title: "Patient visit", names: &[
        "Set ID", "Patient Class", "Assigned Patient Location", "Admission Type", "Preadmit Number",
        "Prior Patient Location", "Attending Doctor", "Referring Doctor", "Consulting Doctor",
        "Hospital Service", "Temporary Location", "Preadmit Test Indicator", "Re-admission Indicator",
        "Admit Source", "Ambulatory Status", "VIP Indicator", "Admitting Doctor", "Patient Type",
        "Visit Number", "Financial Class", "Charge Price Indicator", "Courtesy Code", "Credit Rating",
        "Contract Code", "Contract Effective Date", "Contract Amount", "Contract Period", "Interest Code",
        "Transfer to Bad Debt Code", "Transfer to Bad Debt Date", "Bad Debt Agency Code",
        "Bad Debt Transfer Amount", "Bad Debt Recovery Amount", "Delete Account Indicator",
        "Delete Account Date", "Discharge Disposition", "Discharged to Location", "Diet Type",
        "Servicing Facility", "Bed Status", "Account Status", "Pending Location",
        "Prior Temporary Location", "Admit Date/Time", "Discharge Date/Time", "Current Patient Balance",
        "Total Charges", "Total Adjustments", "Total Payments", "Alternate Visit ID", "Visit Indicator",
        "Other Healthcare Provider", "Service Episode Description", "Service Episode Identifier",
    ] },
    Fields { segment: "PV2", title: "Patient visit, additional", names: &[
        "Prior Pending Location", "Accommodation Code", "Admit Reason", "Transfer Reason",
        "Patient Valuables", "Patient Valuables Location", "Visit User Code", "Expected Admit Date/Time",
        "Expected Discharge Date/Time", "Estimated Length of Inpatient Stay",
        "Actual Length of Inpatient Stay", "Visit Description", "Referral Source Code",
        "Previous Service Date", "Employment Illness Related Indicator", "Purge Status Code",
        "Purge Status Date", "Special Program Code", "Retention Indicator",
        "Expected Number of Insurance Plans", "Visit Publicity Code", "Visit Protection Indicator",
        "Clinic Organization Name", "Patient Status Code", "Visit Priority Code", "Previous Treatment Date",
        "Expected Discharge Disposition", "Signature on File Date", "First Similar Illness Date",
        "Patient Charge Adjustment Code", "Recurring Service Code", "Billing Media Code",
        "Expected Surgery Date and Time", "Military Partnership Code", "Military Non-Availability Code",
        "Newborn Baby Indicator", "Baby Detained Indicator", "Mode of Arrival Code",
        "Recreational Drug Use Code", "Admission Level of Care Code", "Precaution Code",
        "Patient Condition Code", "Living Will Code", "Organ Donor Code", "Advance Directive Code",
        "Patient Status Effective Date", "Expected LOA Return Date/Time",
        "Expected Pre-admission Testing Date/Time", "Notify Clergy Code",
        "Advance Directive Last Verified Date",
    ] },
    Fields { segment: "ROL", title: "Role", names: &[
        "Role Instance ID", "Action Code", "Role", "Role Person", "Role Begin Date/Time",
        "Role End Date/Time", "Role Duration", "Role Action Reason", "Provider Type",
        "Organization Unit Type", "Office/Home Address/Birthplace", "Phone", "Person's Location",
        "Organization",
    ] },
    Fields { segment: "SCH", title: "Schedule", names: &[
        "Placer Appointment ID", "Filler Appointment ID", "Occurrence Number", "Placer Group Number",
        "Schedule ID", "Event Reason", "Appointment Reason", "Appointment Type", "Appointment Duration",
        "Appointment Duration Units", "Appointment Timing Quantity", "Placer Contact Person",
        "Placer Contact Phone Number", "Placer Contact Address", "Placer Contact Location",
        "Filler Contact Person", "Filler Contact Phone Number", "Filler Contact Address",
        "Filler Contact Location", "Entered By Person", "Entered By Phone Number", "Entered By Location",
        "Parent Placer Appointment ID", "Parent Filler Appointment ID", "Filler Status Code",
        "Placer Order Number", "Filler Order Number",
    ] },
    Fields { segment: "SFT", title: "Software", names: &[
        "Software Vendor Organization", "Software Certified Version or Release Number",
        "Software Product Name", "Software Binary ID", "Software Product Information",
        "Software Install Date",
    ] },
    Fields { segment: "TXA", title: "Document header", names: &[
        "Set ID", "Document Type", "Document Content Presentation", "Activity Date/Time",
        "Primary Activity Provider Code/Name", "Origination Date/Time", "Transcription Date/Time",
        "Edit Date/Time", "Originator Code/Name", "Assigned Document Authenticator",
        "Transcriptionist Code/Name", "Unique Document Number", "Parent Document Number",
        "Placer Order Number", "Filler Order Number", "Unique Document File Name",
        "Document Completion Status", "Document Confidentiality Status", "Document Availability Status",
        "Document Storage Status", "Document Change Reason", "Authentication Person, Time Stamp (set)",
        "Distributed Copies", "Folder Assignment", "Document Title",
        "Agreed Due Date/Time", "Creating Facility", "Creating Specialty",
    ] },
];

fn find(segment: &str) -> Option<&'static Fields> {
    SEGMENTS.binary_search_by(|row| row.segment.cmp(segment)).ok().and_then(|at| SEGMENTS.get(at))
}

/// The name of a field (`PID`, 5 → `Patient Name`); `None` for what the standard or this table does not have.
///
/// ```
/// assert_eq!(hilum_hl7v2::field_name("PID", 5), Some("Patient Name"));
/// assert_eq!(hilum_hl7v2::field_name("ZXX", 1), None);
/// ```
pub fn field_name(segment: &str, field: u16) -> Option<&'static str> {
    let names = find(segment)?.names;
    names.get(usize::from(field).checked_sub(1)?).copied()
}

/// What a segment is (`PV1` → `Patient visit`); `None` for unknown and Z segments.
pub fn segment_title(segment: &str) -> Option<&'static str> {
    find(segment).map(|row| row.title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_their_numbers() {
        assert!(SEGMENTS.is_sorted_by(|a, b| a.segment < b.segment));
        let cases = [
            ("MSH", 10, "Message Control ID"),
            ("MSH", 18, "Character Set"),
            ("EVN", 6, "Event Occurred"),
            ("PID", 3, "Patient Identifier List"),
            ("PID", 30, "Patient Death Indicator"),
            ("PD1", 12, "Protection Indicator"),
            ("NK1", 3, "Relationship"),
            ("PV1", 3, "Assigned Patient Location"),
            ("PV1", 19, "Visit Number"),
            ("PV1", 44, "Admit Date/Time"),
            ("PV1", 50, "Alternate Visit ID"),
            ("PV2", 8, "Expected Admit Date/Time"),
            ("MRG", 1, "Prior Patient Identifier List"),
            ("MRG", 5, "Prior Visit Number"),
            ("AL1", 3, "Allergen Code/Mnemonic/Description"),
            ("IAM", 7, "Allergy Unique Identifier"),
            ("DG1", 6, "Diagnosis Type"),
            ("IN1", 36, "Policy Number"),
            ("GT1", 57, "VIP Indicator"),
            ("OBX", 5, "Observation Value"),
            ("ACC", 1, "Accident Date/Time"),
            ("ROL", 4, "Role Person"),
            ("NPU", 2, "Bed Status"),
            ("ERR", 8, "User Message"),
        ];
        for (segment, field, name) in cases {
            assert_eq!(field_name(segment, field), Some(name), "{segment}-{field}");
        }
        for (segment, field) in [("PID", 0), ("PID", 41), ("PID", u16::MAX), ("ZXX", 1), ("", 1)] {
            assert_eq!(field_name(segment, field), None, "{segment}-{field}");
        }
        for row in SEGMENTS {
            assert!(row.names.iter().all(|name| !name.is_empty() && name.is_ascii()), "{}", row.segment);
        }
        assert_eq!((segment_title("PV1"), segment_title("ZXX")), (Some("Patient visit"), None));
    }
}
