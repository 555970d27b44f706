-- Who decided about a message in quarantine, and when.
ALTER TABLE quarantine ADD COLUMN decided INTEGER NOT NULL DEFAULT 0;
ALTER TABLE quarantine ADD COLUMN by TEXT NOT NULL DEFAULT '';
