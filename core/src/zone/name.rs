//! Which zone names are accepted.
//!
//! PostgreSQL reads almost anything as a zone: `UTC+7` and `+07` are POSIX rules seven hours *west* of
//! Greenwich, `Foo7` too. A name is therefore accepted by its shape, before the server is asked whether it has
//! such a zone.

/// The verdict on a zone name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneName {
    /// A name to look up among the server's zones.
    Region(String),
    /// A name that is not looked up, because it means nothing, too much, or the opposite of what it looks like.
    Refused {
        /// What is wrong with it, as a clause.
        reason: String,
        /// What to write instead, where the name tells.
        hint: Option<String>,
    },
}

const LONGEST_NAME: usize = 255;

/// Names without a region's slash that people use in Indonesia, and what they mean.
const ALIASES: [(&str, &str); 3] = [
    ("WIB", "Asia/Jakarta"),
    ("WITA", "Asia/Makassar"),
    ("WIT", "Asia/Jayapura"),
];

/// All zone names with a digit that name one zone without doubt.
const NAMES_WITH_DIGITS: [&str; 10] = [
    "EST5EDT",
    "CST6CDT",
    "MST7MDT",
    "PST8PDT",
    "GMT0",
    "GMT+0",
    "GMT-0",
    "Etc/GMT0",
    "Etc/GMT+0",
    "Etc/GMT-0",
];

/// Debian's zone data has every zone once more in this folder.
const POSIX_FOLDER: &str = "posix/";

/// Abbreviations that are no zone names, and the zones their users may mean.
const ABBREVIATIONS: &[(&str, &[&str])] = &[
    ("ACDT", &["Australia/Adelaide"]),
    ("ACST", &["Australia/Darwin", "Australia/Adelaide"]),
    ("ADT", &["America/Halifax"]),
    ("AEDT", &["Australia/Sydney"]),
    ("AEST", &["Australia/Brisbane", "Australia/Sydney"]),
    ("AKDT", &["America/Anchorage"]),
    ("AKST", &["America/Anchorage"]),
    ("AMT", &["America/Manaus", "Asia/Yerevan"]),
    ("ART", &["America/Argentina/Buenos_Aires"]),
    ("AST", &["America/Halifax", "America/Puerto_Rico", "Asia/Riyadh"]),
    ("AWST", &["Australia/Perth"]),
    ("BRT", &["America/Sao_Paulo"]),
    ("BST", &["Europe/London", "Asia/Dhaka", "Pacific/Bougainville"]),
    ("CAT", &["Africa/Maputo"]),
    ("CDT", &["America/Chicago", "America/Havana"]),
    ("CEST", &["Europe/Berlin", "Europe/Paris"]),
    ("CLT", &["America/Santiago"]),
    ("COT", &["America/Bogota"]),
    ("CST", &["America/Chicago", "Asia/Shanghai", "America/Havana"]),
    ("EAT", &["Africa/Nairobi"]),
    ("ECT", &["America/Guayaquil", "America/Puerto_Rico"]),
    ("EDT", &["America/New_York"]),
    ("EEST", &["Europe/Athens", "Europe/Kyiv"]),
    ("ET", &["America/New_York"]),
    ("CT", &["America/Chicago"]),
    ("MT", &["America/Denver"]),
    ("PT", &["America/Los_Angeles"]),
    ("GST", &["Asia/Dubai", "Atlantic/South_Georgia", "Pacific/Guam"]),
    ("HDT", &["America/Adak"]),
    ("HKT", &["Asia/Hong_Kong"]),
    ("ICT", &["Asia/Bangkok", "Asia/Ho_Chi_Minh"]),
    ("IDT", &["Asia/Jerusalem"]),
    ("IRST", &["Asia/Tehran"]),
    ("IST", &["Asia/Kolkata", "Asia/Jerusalem", "Europe/Dublin"]),
    ("JST", &["Asia/Tokyo"]),
    ("KST", &["Asia/Seoul"]),
    ("MDT", &["America/Denver"]),
    ("MMT", &["Asia/Yangon"]),
    ("MSK", &["Europe/Moscow"]),
    ("MYT", &["Asia/Kuala_Lumpur"]),
    ("NDT", &["America/St_Johns"]),
    ("NPT", &["Asia/Kathmandu"]),
    ("NST", &["America/St_Johns"]),
    ("NZDT", &["Pacific/Auckland"]),
    ("NZST", &["Pacific/Auckland"]),
    ("PDT", &["America/Los_Angeles"]),
    ("PET", &["America/Lima"]),
    ("PHT", &["Asia/Manila"]),
    ("PKT", &["Asia/Karachi"]),
    ("PST", &["America/Los_Angeles", "Asia/Manila", "Pacific/Pitcairn"]),
    ("PYT", &["America/Asuncion"]),
    ("SAST", &["Africa/Johannesburg"]),
    ("SGT", &["Asia/Singapore"]),
    ("SST", &["Pacific/Pago_Pago", "Asia/Singapore"]),
    ("TRT", &["Europe/Istanbul"]),
    ("UYT", &["America/Montevideo"]),
    ("VET", &["America/Caracas"]),
    ("WAT", &["Africa/Lagos"]),
    ("WEST", &["Europe/Lisbon"]),
    ("Z", &["UTC"]),
];

/// Judges a zone name by its shape; an alias is replaced by the region it means. Case does not matter.
pub fn zone_name(name: &str) -> ZoneName {
    let refused = |reason: String| ZoneName::Refused { reason, hint: None };
    if name.is_empty() {
        return refused("is empty".to_owned());
    }
    if name.len() > LONGEST_NAME {
        return refused(format!("is longer than {LONGEST_NAME} characters"));
    }
    if is_posix_rule(name) {
        return ZoneName::Refused {
            reason: "is a POSIX offset, not a zone name".to_owned(),
            hint: Some(POSIX_HINT.to_owned()),
        };
    }
    if let Some(other) = name
        .chars()
        .find(|&c| !(c.is_ascii_alphabetic() || "/_+-".contains(c) || c.is_ascii_digit()))
    {
        return refused(format!("contains {other:?}, which no zone name does"));
    }
    if let Some((_, region)) = find(&ALIASES, name) {
        return ZoneName::Region((*region).to_owned());
    }
    if let Some((_, regions)) = find(ABBREVIATIONS, name) {
        return abbreviation(regions);
    }
    ZoneName::Region(name.to_owned())
}

/// What to write where a name tells nothing.
pub const USE_A_REGION: &str = "use a region's name such as Asia/Jakarta; pg_timezone_names lists them";

const POSIX_HINT: &str = "in such names the sign means the opposite of what it looks like (UTC+7 is seven hours \
     west of Greenwich): use a region's name such as Asia/Jakarta";

fn abbreviation(regions: &[&str]) -> ZoneName {
    let reason = match regions {
        [_] => "is an abbreviation, not a zone name",
        _ => "is an abbreviation of more than one zone",
    };
    ZoneName::Refused {
        reason: reason.to_owned(),
        hint: Some(format!("use {}", regions.join(" or "))),
    }
}

/// Whether the server would read the name as a POSIX rule. Every such rule has an offset, hence a digit, and few
/// names of zones do.
fn is_posix_rule(name: &str) -> bool {
    let name = match name.get(..POSIX_FOLDER.len()) {
        Some(folder) if folder.eq_ignore_ascii_case(POSIX_FOLDER) => &name[POSIX_FOLDER.len()..],
        _ => name,
    };
    name.contains(['<', '>', ','])
        || name.contains(|c: char| c.is_ascii_digit())
            && !NAMES_WITH_DIGITS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn find<'t, T>(table: &'t [(&str, T)], name: &str) -> Option<&'t (&'t str, T)> {
    table.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// How alike two names must be to be suggested, from 0 (nothing in common) to 1 (equal).
const NEAR: f64 = 0.75;

/// The name among `names` that is most like `wanted`, as a whole or by its last component (`Jakarta` is near
/// `Asia/Jakarta`); of equally near ones the shortest. `None` if none is near, or if it is a folder of zones.
pub fn suggest(wanted: &str, names: impl Iterator<Item = String>) -> Option<String> {
    if wanted.len() > LONGEST_NAME {
        return None;
    }
    let wanted = wanted.trim().to_ascii_lowercase().replace(' ', "_");
    let last_wanted = last_component(&wanted);
    let names: Vec<String> = names.collect();
    let folder = format!("{wanted}/");
    if names.iter().any(|name| name.to_ascii_lowercase().starts_with(&folder)) {
        return None;
    }
    names
        .into_iter()
        .map(|name| {
            let candidate = name.to_ascii_lowercase();
            let whole = strsim::normalized_damerau_levenshtein(&wanted, &candidate);
            let last = strsim::normalized_damerau_levenshtein(last_wanted, last_component(&candidate));
            (whole.max(last), name)
        })
        .filter(|&(likeness, _)| likeness >= NEAR)
        .max_by(|(a, x), (b, y)| a.total_cmp(b).then(y.len().cmp(&x.len())).then_with(|| y.cmp(x)))
        .map(|(_, name)| name)
}

fn last_component(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str) -> (String, String) {
        match zone_name(name) {
            ZoneName::Refused { reason, hint } => (reason, hint.unwrap_or_default()),
            ZoneName::Region(region) => panic!("{name} was accepted as {region}"),
        }
    }

    #[test]
    fn zone_names_pass_unchanged() {
        for name in [
            "Asia/Jakarta",
            "asia/jakarta",
            "America/Argentina/Buenos_Aires",
            "America/Port-au-Prince",
            "EST5EDT",
            "cst6cdt",
            "MST7MDT",
            "PST8PDT",
            "GMT0",
            "GMT+0",
            "GMT-0",
            "Etc/GMT0",
            "Etc/GMT+0",
            "Etc/GMT-0",
            "Etc/UTC",
            "EST",
            "MST",
            "HST",
            "CET",
            "EET",
            "MET",
            "WET",
            "UTC",
            "GMT",
            "UCT",
            "Zulu",
            "PRC",
            "ROC",
            "ROK",
            "W-SU",
            "NZ-CHAT",
            "GB-Eire",
            "Japan",
            "Cuba",
        ] {
            assert_eq!(zone_name(name), ZoneName::Region(name.to_owned()));
        }
    }

    #[test]
    fn indonesian_names_mean_their_regions() {
        for (alias, region) in [
            ("WIB", "Asia/Jakarta"),
            ("wita", "Asia/Makassar"),
            ("Wit", "Asia/Jayapura"),
        ] {
            assert_eq!(zone_name(alias), ZoneName::Region(region.to_owned()));
        }
    }

    #[test]
    fn posix_offsets_are_refused_and_the_sign_explained() {
        for name in [
            "Etc/GMT+7",
            "Etc/GMT-7",
            "etc/gmt-7",
            "GMT+7",
            "GMT-14",
            "UTC+7",
            "+07",
            "-07",
            "+7",
            "+07:00",
            "7",
            "<+07>-7",
            "<WIB>-7",
            "WIB-7",
            "WIB7",
            "JST-9",
            "CET-1CEST",
            "EST5",
            "AEST10AEDT",
            "foo/bar2",
            "posix/Etc/GMT+7",
            "EST5EDT,M3.2.0,M11.1.0",
            "GMT+00",
            "<>",
        ] {
            let (reason, hint) = refused(name);
            assert!(reason.contains("POSIX"), "{name}: {reason}");
            assert!(hint.contains("opposite"), "{name}: {hint}");
        }
    }

    #[test]
    fn abbreviations_are_refused_with_the_zones_they_may_mean() {
        let (reason, hint) = refused("IST");
        assert!(reason.contains("more than one"));
        assert_eq!(hint, "use Asia/Kolkata or Asia/Jerusalem or Europe/Dublin");
        assert_eq!(
            refused("cst").1,
            "use America/Chicago or Asia/Shanghai or America/Havana"
        );
        assert_eq!(refused("EDT").1, "use America/New_York");
        for (name, regions) in ABBREVIATIONS {
            assert!(
                regions.iter().all(|r| matches!(zone_name(r), ZoneName::Region(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for name in [
            "",
            " ",
            "Asia/Jakarta ",
            "..",
            "../etc/passwd",
            "Asia/..",
            "Asia.Jakarta",
            "Größe",
            "a\0b",
            "a;b",
        ] {
            refused(name);
        }
        assert!(matches!(zone_name(&"a".repeat(255)), ZoneName::Region(_)));
        refused(&"a".repeat(256));
        refused(&"ü".repeat(200));
    }

    #[test]
    fn suggests_the_nearest_name_or_none() {
        let names = || {
            [
                "posix/Asia/Jakarta",
                "Asia/Jakarta",
                "Asia/Tokyo",
                "America/New_York",
                "Europe/Kyiv",
                "Pacific/Apia",
                "UTC",
            ]
            .into_iter()
            .map(str::to_owned)
        };
        let nearest = |wanted| suggest(wanted, names());
        assert_eq!(nearest("Jakarta").as_deref(), Some("Asia/Jakarta"));
        assert_eq!(nearest("asia/djakarta").as_deref(), Some("Asia/Jakarta"));
        assert_eq!(nearest("Indonesia/Jakarta").as_deref(), Some("Asia/Jakarta"));
        assert_eq!(nearest("new york").as_deref(), Some("America/New_York"));
        assert_eq!(nearest("Asia/Jogja"), None);
        assert_eq!(nearest("Asia"), None);
        assert_eq!(nearest(""), None);
        assert_eq!(nearest(&"x".repeat(100_000)), None);
    }
}
