SELECT array_agg(lease_token)::text AS t FROM slotkeeper.claim_due_content('w', 50) \gset
SELECT count(slotkeeper.begin_publish(t)) FROM unnest(:t::text[]) AS t;
SELECT count(slotkeeper.confirm_publish(t, 'id')) FROM unnest(:t::text[]) AS t;
