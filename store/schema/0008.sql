-- Addresses that users have logged in from in the last 30 days: whoever guesses does not slow them down there.
CREATE TABLE known (user TEXT NOT NULL, network TEXT NOT NULL, seen INTEGER NOT NULL, PRIMARY KEY (user, network)) WITHOUT ROWID;
CREATE INDEX known_seen ON known (seen);
