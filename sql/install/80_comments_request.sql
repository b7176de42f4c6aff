-- Keyed requests: what psql shows with \df+.

COMMENT ON FUNCTION slotkeeper.begin_request(text, text, text, text, jsonb, interval, interval, interval) IS
'Asks for the key of a request, in the scope of p_user_id. p_request: the request''s body, which is part of what makes it the same request. p_lease (1 millisecond to 1 day): after it a holder that has not finished is taken over. p_ttl (1 second to 366 days): how long the response is kept after the finish. p_wait (0 to 5 minutes): how long to wait for another holder.
Outcomes: started (token, attempt, lease_until), replayed (status, headers, body, resource, first_seen), in_progress (retry_after_seconds), mismatch (method, path and first_seen of the first request), expired (resource), unprotected (p_key is NULL). http_status where a response fits.
Errors: 22004 null; 22023 empty, out of bounds; 22001 over 255 characters (path: 2048, method: 32); 25006 read only.';

COMMENT ON FUNCTION slotkeeper.extend_request(text, interval) IS
'Moves the end of the holder''s lease to p_lease from now.
Outcomes: extended (lease_until), stale_token (taken over, finished, gone). Errors: 22004; 22023.';

COMMENT ON FUNCTION slotkeeper.finish_request(text, integer, jsonb, jsonb, text, boolean) IS
'Stores the response (body and headers at most 1 MiB) and ends the request. p_headers: an object; headers that carry credentials, cookies or tokens are left out. p_resource: id or path of what was made, known for one more lifetime after the response has expired. A p_status of 400 or more frees the key instead, unless p_keep_errors.
Outcomes: finished (expires_at; also when the same holder repeats it), released (the key is free), stale_token (taken over or gone: nothing was changed). Errors: 22004; 22023; 54000 too large.';

COMMENT ON FUNCTION slotkeeper.abandon_request(text) IS
'Gives the key back without a response.
Outcomes: abandoned, stale_token. Errors: 22004; 22023.';

COMMENT ON FUNCTION slotkeeper.forget_user(text) IS
'Removes all requests of a user, those in progress too.
Outcome: forgotten (removed). Errors: 22004; 22023.';

COMMENT ON FUNCTION slotkeeper.purge_expired(integer) IS
'Cleans up at most p_limit (1 to 100000) requests whose time has come, in one go; never a live one. Needed only where hardly anything begins.
Outcome: purged (removed; expired: responses removed, their resource still known; more: whether there may be more). Errors: 22004; 22023.';

COMMENT ON FUNCTION slotkeeper.idempotent_insert(regclass, jsonb, text, text, jsonb, jsonb, interval) IS
'Inserts p_row (column names and values; columns left out have their defaults), and dependent rows, as one unit under one key, with the caller''s own rights.
p_slug: {"column", "from" (column of p_row), "scope"? (columns of p_row, or {"column": value}), "max_length"?}. p_then: [{"table", "row", "on_error"? "fail" or "ignore"}]; "$.col" is a column of the first row, "$1.col" of the first dependent, "$$.col" the text itself. p_key NULL: a plain atomic insert.
Outcomes: inserted and replayed (row, then: the dependents as stored, or {"error": …} for an ignored one), mismatch, expired. Waits for a concurrent holder of the key.
Errors: 42703 unknown column; 42P01 table; 22004; 22023; 22001; 54000; what the tables'' constraints and triggers raise.';
