-- What of a user does not travel, as last looked at: JSON of the syncer.
CREATE TABLE gaps (user TEXT PRIMARY KEY, at INTEGER NOT NULL, text BLOB NOT NULL) WITHOUT ROWID;
