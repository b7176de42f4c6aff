SELECT lease_token AS token FROM slotkeeper.claim_due_content('w', 1) \gset
SELECT slotkeeper.begin_publish(:token);
SELECT slotkeeper.confirm_publish(:token, 'id');
