-- What psql shows of the functions for publishing: arguments, units, outcomes, errors.

COMMENT ON FUNCTION slotkeeper.claim_due_content(text, integer, interval, text[]) IS
'Hands up to p_limit (1 to 1000) contents that are due to p_worker, oldest first, each for p_lease (1 second to 7 days); p_platforms: of these only. Never the same content to two. Nothing due: no rows.
Columns: attempt (its number if it begins), lease_token (for the calls that follow), publish_key (the same for this content for ever: the provider''s idempotency key), mode (sync, or async after repeated timeouts). Commit, then begin_publish().
A copy of a database hands nothing out, with a warning, until resume_after_restore(). Errors: 22004 null; 22023 empty, out of range; 22001.';

COMMENT ON FUNCTION slotkeeper.claim_content(text, text, interval, text, text, text) IS
'Hands one content to p_worker, for applications with a job queue of their own that ask when the job fires.
Outcomes: claimed (with lease_token, lease_until, attempt, publish_key, mode), not_due (until), already_published, leased (by, until), held (reason: failed, unknown, queue_paused, queue_disabled, queue_needs_refresh, restored_copy), not_found.
Errors: 22023 ambiguous content id, naming the candidates; 22004, 22001.';

COMMENT ON FUNCTION slotkeeper.begin_publish(text) IS
'Says that the external call is about to be made. Commit it, then make the call: from here on the content may be out, and the commit waits for the disk whatever synchronous_commit says.
Outcomes: proceed; already_published; unscheduled; held (reason: begun_before, moved (until), queue_paused, queue_disabled, queue_needs_refresh, restored_copy); stale_token (reason). Make the call on proceed only.
Errors: 22004, 22023, 22001.';

COMMENT ON FUNCTION slotkeeper.extend_lease(text, interval) IS
'Lets a lease last until p_lease (1 second to 7 days) from now, as long as nobody has taken the content over.
Outcomes: extended (lease_until), stale_token. Errors: 22004, 22023, 22001.';

COMMENT ON FUNCTION slotkeeper.confirm_publish(text, text, text) IS
'Says that the content was published, as p_provider_id at p_url. The first confirmation of an attempt that began is true however late it comes (late), and closes the content in this queue for ever. The commit waits for the disk.
Outcomes: published, already_published, stale_token (never begun). Errors: 22004, 22023, 22001.';

COMMENT ON FUNCTION slotkeeper.fail_publish(text, text, integer, interval) IS
'Says that the attempt failed: p_error (the first 4000 characters are kept), p_http_status of the provider''s answer (NULL: none came), p_retry_after if the provider asked for it. The platform''s policy decides what follows.
Outcomes: retrying (next_attempt_at), failed, unknown (nobody knows whether it was published), each with attempt; stale_token. Errors: 22004; 22023 p_http_status, p_retry_after.';

COMMENT ON FUNCTION slotkeeper.resolve_unknown(text, boolean, text, text, text, text) IS
'Says what became of an attempt of which nobody knew: published or not. If not, another attempt follows as after any failure.
Outcomes: published, retrying (next_attempt_at), failed (no attempt is left), already_published, unchanged (with state: it is not unknown), not_found. Errors: 22023 ambiguous content id; 22004, 22001.';

COMMENT ON FUNCTION slotkeeper.retry_content(text, text, text, text) IS
'Revives a failed content: it is due at once, with all attempts of its policy again.
Outcomes: retrying, already_published, unchanged (with state: it has not failed), not_found. Errors: 22023 ambiguous content id; 22004, 22001.';

COMMENT ON FUNCTION slotkeeper.set_platform(text, jsonb) IS
'Sets a platform''s policy: {"max_attempts": 4, "delays": ["30 seconds", "60 seconds", "120 seconds"] or "backoff": {"base", "factor", "cap"}, "jitter": 0.1, "retry_statuses": [429], "unknown_statuses": [408, 500, 502, 503, 504], "on_unknown": "hold" or "retry", "async_after_timeouts": 2, "limits": []}. What is left out has the default shown here.
Outcome: updated, with the policy as it applies. Errors: 22023, naming the JSON path; 22004.';

COMMENT ON FUNCTION slotkeeper.resume_after_restore() IS
'Says that this copy of the database is the one that publishes from now on. Call it after a restore or pg_upgrade, and never in a staging copy.
Outcomes: resumed, unchanged (it is no copy).';

COMMENT ON FUNCTION slotkeeper.prune_history(interval, integer) IS
'Removes up to p_limit (1 to 1000000) rows of history older than p_older_than: ended attempts of contents that are settled, bookings that were given back, and moves of contents that wait no longer. What was published stays known for ever.
Outcome: pruned, with attempts, bookings and moves. Errors: 22004; 22023.';
