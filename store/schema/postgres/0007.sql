-- Addresses that users have logged in from in the last 30 days: whoever guesses does not slow them down there.
CREATE TABLE known ("user" TEXT COLLATE "C" NOT NULL, network TEXT COLLATE "C" NOT NULL, seen BIGINT NOT NULL, PRIMARY KEY ("user", network));
CREATE INDEX known_seen ON known (seen);
