//! slotkeeper: posting slots without collisions, decided inside PostgreSQL.
//!
//! SQL owns the data (`sql/install`), `slotkeeper-core` owns the decisions that need no server, and this crate joins
//! the two: each public function locks, looks, decides, acts and reports. `docs/design.md` explains why it is so.

mod arguments;
mod assign;
mod batch;
mod binding;
mod booking;
mod clock;
mod document;
mod draft;
mod fault;
mod full_before;
mod history;
mod idempotent;
mod ledger;
mod luck;
mod manage;
mod mover;
#[allow(unsafe_code, reason = "the one module that talks to the server's C interface")]
mod pg;
mod place;
mod preview;
mod publish;
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
extension_sql_file!(
    "../sql/install/10_queue.sql",
    name = "queue",
    requires = ["schema", queue::tell_of_queues]
);
extension_sql_file!("../sql/install/20_booking.sql", name = "booking", requires = ["queue"]);
extension_sql_file!(
    "../sql/install/30_binding.sql",
    name = "binding",
    requires = ["booking", binding::release::release_source]
);
extension_sql_file!(
    "../sql/install/31_bound_queues.sql",
    name = "bound_queues",
    requires = ["binding"]
);
extension_sql_file!(
    "../sql/install/80_comments_queues.sql",
    name = "comments_queues",
    requires = [
        "bound_queues",
        binding::queues::attach_queues,
        binding::queues::follow::follow_queue
    ]
);
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
        "binding",
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
    "../sql/install/80_comments_binding.sql",
    name = "comments_binding",
    requires = [
        "binding",
        binding::attach::attach_table,
        binding::attach::detach_table,
        binding::check::check_table,
        binding::collisions::move_collisions,
        binding::collisions::reconcile_table,
        binding::guard::guard_row,
    ]
);
extension_sql_file!(
    "../sql/install/50_publish.sql",
    name = "publish",
    requires = ["booking", "binding"]
);
extension_sql_file!(
    "../sql/install/80_comments_publish.sql",
    name = "comments_publish",
    requires = [
        "publish",
        publish::claim::claim_due_content,
        publish::claim::claim_content,
        publish::lease::begin_publish,
        publish::lease::extend_lease,
        publish::outcome::confirm_publish,
        publish::outcome::fail_publish,
        publish::person::resolve_unknown,
        publish::person::retry_content,
        publish::platform::set_platform,
        publish::home::resume_after_restore,
        publish::history::prune_history,
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
    requires = [
        "comments",
        "comments_binding",
        "comments_queues",
        "comments_publish",
        "comments_request",
        "comments_slug_draft"
    ],
    finalize
);

#[pg_guard]
extern "C-unwind" fn _PG_init() {
    slug::define_settings();
    clock::define_settings();
    pg::watch_catalogs();
    pg::running::watch_statements(binding::guard::statement_ended);
}
