//! Whatever the policy and the failure: delays stay inside what the policy says, and nothing that may have been
//! published is tried again unless the policy lists it.

use proptest::prelude::*;
use serde_json::{Value, json};
use slotkeeper_core::policy::{Failure, OnUnknown, Policy, Verdict};

const SECOND: i64 = slotkeeper_core::MICROS_PER_SEC;

fn policies() -> impl Strategy<Value = Value> {
    let waiting = prop_oneof![
        prop::collection::vec(1_u32..100_000, 1..6)
            .prop_map(|seconds| json!({"delays": seconds.iter().map(|s| format!("{s} s")).collect::<Vec<_>>()})),
        (1_u32..5_000, 1.0_f64..100.0, 1_u32..100_000).prop_map(
            |(base, factor, cap)| json!({"backoff": {"base": format!("{base} s"), "factor": factor, "cap": format!("{cap} s")}})
        ),
        Just(json!({})),
    ];
    let statuses = || prop::collection::vec(100_u16..600, 0..5);
    (
        waiting,
        1_u32..8,
        0.0_f64..=1.0,
        statuses(),
        statuses(),
        any::<bool>(),
        1_u32..5,
    )
        .prop_map(|(mut policy, max_attempts, jitter, retry, unknown, hold, timeouts)| {
            policy["max_attempts"] = json!(max_attempts);
            policy["jitter"] = json!(jitter);
            policy["retry_statuses"] = json!(retry);
            policy["unknown_statuses"] = json!(unknown);
            policy["on_unknown"] = json!(if hold { "hold" } else { "retry" });
            policy["async_after_timeouts"] = json!(timeouts);
            policy
        })
}

fn failures() -> impl Strategy<Value = Failure> {
    (
        any::<bool>(),
        prop::option::of(100_u16..600),
        any::<u32>(),
        1_u32..12,
        prop::option::of(0..100_000 * SECOND),
        any::<u64>(),
    )
        .prop_map(|(begun, status, failures, tries, retry_after_micros, seed)| Failure {
            begun,
            status,
            failures: failures.max(1),
            tries,
            retry_after_micros,
            seed,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn it_reads_back_what_it_writes(json in policies()) {
        let policy = Policy::parse(&json).unwrap();
        prop_assert_eq!(Policy::parse(&policy.to_json()), Ok(policy));
    }

    #[test]
    fn delays_never_shrink_and_jitter_only_adds(json in policies(), n in 1_u32..2_000, seed in any::<u64>()) {
        let policy = Policy::parse(&json).unwrap();
        let plain = Policy { jitter: 0.0, ..policy.clone() };
        let (without, with) = (plain.delay_after(n, seed), policy.delay_after(n, seed));
        prop_assert!(without > 0);
        prop_assert!(with >= without);
        prop_assert!(with as f64 <= without as f64 * (1.0 + policy.jitter) + 1.0);
        if json.get("backoff").is_some() {
            prop_assert!(plain.delay_after(n + 1, seed) >= without);
        }
    }

    #[test]
    fn what_may_be_published_is_retried_only_where_the_policy_lists_it(json in policies(), failure in failures()) {
        let policy = Policy::parse(&json).unwrap();
        let listed = |list: &[u16]| failure.status.is_some_and(|status| list.contains(&status));
        match policy.after(&failure) {
            Verdict::Retry(delay) => {
                prop_assert!(delay >= failure.retry_after_micros.unwrap_or(0));
                let allowed = listed(&policy.retry_statuses) || policy.on_unknown == OnUnknown::Retry;
                prop_assert!(!failure.begun || (allowed && failure.tries < policy.max_attempts));
            }
            Verdict::Failed => prop_assert!(failure.begun && failure.status.is_some()),
            Verdict::Unknown => prop_assert!(failure.begun && !listed(&policy.retry_statuses)),
        }
    }
}
