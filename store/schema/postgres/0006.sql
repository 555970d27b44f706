-- What of a user does not travel, as last looked at: JSON of the syncer.
CREATE TABLE gaps ("user" TEXT COLLATE "C" PRIMARY KEY, at BIGINT NOT NULL, text BYTEA NOT NULL);
