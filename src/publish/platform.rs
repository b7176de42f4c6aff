//! `set_platform`: a platform's policy.

use crate::arguments::{identifier, json, platform_name};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::json::{JsonArg, JsonReply};
use crate::pg::refuse_read_only;
use crate::pg::statement::{Statement, Value};
use crate::pg::time::ServerZone;
use crate::reply::Reply;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::policy::{Policy, Window};

thread_local! {
    static POLICY: Statement = const { Statement::by_index(c"
SELECT p.policy FROM slotkeeper.platform AS p WHERE p.platform OPERATOR(pg_catalog.=) $1") };

    static SET: Statement = const { Statement::by_index(c"
INSERT INTO slotkeeper.platform (platform, policy, updated_at) VALUES ($1, $2, $3)
ON CONFLICT (platform) DO UPDATE SET policy = excluded.policy, updated_at = excluded.updated_at") };
}

/// The policy of a platform, defaults filled in. One that cannot be read, such as a later version's, keeps nobody from telling what
/// came of an attempt, and no claim from being made: the defaults, which retry nothing that may be out, apply.
pub(crate) fn policy(platform: &str) -> Result<Policy, Fault> {
    let stored = POLICY.with(|find| find.read(&[Value::Text(platform)], |row| row.json(1)))?;
    let Some(json) = stored.first() else {
        return Ok(Policy::default());
    };
    Ok(Policy::parse(json).unwrap_or_else(|invalid| {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("the policy of platform {platform} cannot be read: the defaults apply"),
            "slotkeeper",
        )
        .set_detail(format!("{} {}", invalid.path, invalid.problem))
        .set_hint("Set it again with slotkeeper.set_platform().")
        .report(PgLogLevel::WARNING);
        Policy::default()
    }))
}

#[pg_extern(schema = "slotkeeper")]
fn set_platform(p_platform: Option<&str>, p_policy: Option<JsonArg>) -> Result<JsonReply, ErrorReport> {
    let platform = platform_name("p_platform", identifier("p_platform", p_platform)?)?;
    let given = json("p_policy", p_policy)?.ok_or(Fault::Null { argument: "p_policy" })?;
    let policy = Policy::parse(&given).map_err(Fault::from)?;
    check_zones(&policy)?;
    refuse_read_only(c"set_platform()");
    let values = [Value::Text(&platform), Value::Json(&given), Value::Time(now()?)];
    SET.with(|set| set.write(&values, |_| Ok(())))?;
    Ok(Reply::new("updated")
        .with("platform", platform)
        .with("policy", policy.to_json())
        .into())
}

/// Zones are the server's to know.
fn check_zones(policy: &Policy) -> Result<(), Fault> {
    for (index, limit) in policy.limits.iter().enumerate() {
        if let Window::Fixed { reset_zone } = &limit.window
            && ServerZone::named(reset_zone).is_none()
        {
            return Err(slotkeeper_core::Invalid {
                path: format!("policy.limits[{index}].reset_zone"),
                problem: format!("is {reset_zone:?}, no time zone that the server knows"),
                hint: Some("SELECT name FROM pg_timezone_names lists the names".to_owned()),
            }
            .into());
        }
    }
    Ok(())
}
