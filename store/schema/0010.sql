-- Where requests came from, what was shown before, and what belongs together.
ALTER TABLE operations ADD COLUMN wave TEXT NOT NULL DEFAULT '';
ALTER TABLE operations ADD COLUMN parent TEXT NOT NULL DEFAULT '';
ALTER TABLE operations ADD COLUMN now INTEGER NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE operations ADD COLUMN plan TEXT NOT NULL DEFAULT '';
CREATE INDEX operations_parent ON operations (parent) WHERE parent <> '';
ALTER TABLE history ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE history ADD COLUMN plan TEXT NOT NULL DEFAULT '';

-- Stop signs that no flip passes.
CREATE TABLE holds (
  scope  TEXT PRIMARY KEY,
  by     TEXT NOT NULL,
  reason TEXT NOT NULL,
  at     INTEGER NOT NULL
) WITHOUT ROWID;

ALTER TABLE nodes ADD COLUMN incarnation TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
