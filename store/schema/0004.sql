-- Whose mailboxes are not kept equal for now; "*" is everybody's.
CREATE TABLE pauses (user TEXT PRIMARY KEY, by TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
