//! slotkeeper: posting slots without collisions, decided inside PostgreSQL.
//!
//! SQL owns the data (`sql/install`), `slotkeeper-core` owns the decisions that need no server, and this crate joins
//! the two: each public function locks, looks, decides, acts and reports. `docs/design.md` explains why it is so.

mod arguments;
mod assign;
mod batch;
mod booking;
mod clock;
mod draft;
mod fault;
mod idempotent;
mod ledger;
mod manage;
#[allow(unsafe_code, reason = "the one module that talks to the server's C interface")]
mod pg;
mod place;
mod preview;
mod queue;
mod reply;
mod request;
mod schedule;
mod slug;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

/// Makes the schema's name known to the functions; the bootstrap script below has created it by then.
#[pg_schema]
mod slotkeeper {}

extension_sql_file!("../sql/install/00_schema.sql", name = "schema", bootstrap);
extension_sql_file!("../sql/install/10_queue.sql", name = "queue", requires = ["schema"]);
extension_sql_file!("../sql/install/20_booking.sql", name = "booking", requires = ["queue"]);
extension_sql_file!(
    "../sql/install/40_request.sql",
    name = "request",
    requires = ["booking"]
);
extension_sql_file!(
    "../sql/install/80_comments_request.sql",
    name = "comments_request",
    requires = [
        "request",
        request::begin::begin_request,
        request::hold::extend_request,
        request::hold::finish_request,
        request::hold::abandon_request,
        request::purge::forget_user,
        request::purge::purge_expired,
        idempotent::idempotent_insert,
    ]
);
extension_sql_file!(
    "../sql/install/80_comments.sql",
    name = "comments",
    requires = [
        "booking",
        assign::assign_next_available_slot,
        assign::assign_next_available_slot_uuid,
        batch::assign_slots,
        manage::create_queue,
        manage::alter_queue,
        manage::set_queue_status,
        manage::drop_queue,
        preview::preview_slots,
        schedule::schedule_content,
        schedule::reschedule_content,
        schedule::unschedule_content,
    ]
);
extension_sql_file!(
    "../sql/install/80_comments_slug_draft.sql",
    name = "comments_slug_draft",
    requires = [
        slug::unique_slug,
        slug::attach::attach_slug,
        slug::write::write_slug,
        draft::publish_draft,
        draft::claim_draft
    ]
);
extension_sql_file!(
    "../sql/install/90_access.sql",
    name = "access",
    requires = ["comments", "comments_request", "comments_slug_draft"],
    finalize
);

#[pg_guard]
extern "C-unwind" fn _PG_init() {
    slug::define_settings();
    clock::define_settings();
    pg::watch_relations();
}
