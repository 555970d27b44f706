-- Whose mailboxes are not kept equal for now; "*" is everybody's.
CREATE TABLE pauses ("user" TEXT COLLATE "C" PRIMARY KEY, by TEXT COLLATE "C" NOT NULL, reason TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL);
