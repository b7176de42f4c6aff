SELECT * FROM slotkeeper.claim_due_content('w', 1);
