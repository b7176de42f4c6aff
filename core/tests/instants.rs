//! Instants as text against chrono's formatting.

use chrono::{DateTime, FixedOffset};
use proptest::prelude::*;
use slotkeeper_core::MICROS_PER_SEC;
use slotkeeper_core::zone::{FixedZone, format_local};

proptest! {
    #[test]
    fn shows_what_chrono_shows(
        secs in -62_167_132_800_i64..253_402_214_400, // the years of four digits, a day off at both ends
        micros in prop_oneof![Just(0), (0_i64..1_000).prop_map(|ms| ms * 1_000), 0..MICROS_PER_SEC],
        offset in prop_oneof![(-95..=95).prop_map(|quarters| quarters * 900), -86_399..=86_399],
    ) {
        let instant = secs * MICROS_PER_SEC + micros;
        let there = DateTime::from_timestamp_micros(instant)
            .unwrap()
            .with_timezone(&FixedOffset::east_opt(offset).unwrap());
        let mut expected = there.format("%Y-%m-%dT%H:%M:%S").to_string();
        if micros != 0 {
            expected += there.format("%.6f").to_string().trim_end_matches('0');
        }
        expected += &there.format(if offset % 60 == 0 { "%:z" } else { "%::z" }).to_string();
        prop_assert_eq!(format_local(FixedZone(offset), instant), expected);
    }
}
