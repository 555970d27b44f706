-- Where requests came from, what was shown before, and what belongs together.
ALTER TABLE operations ADD COLUMN wave TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE operations ADD COLUMN parent TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE operations ADD COLUMN now BIGINT NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN origin TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE operations ADD COLUMN plan TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX operations_parent ON operations (parent) WHERE parent <> '';
ALTER TABLE history ADD COLUMN origin TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE history ADD COLUMN plan TEXT COLLATE "C" NOT NULL DEFAULT '';

-- Stop signs that no flip passes.
CREATE TABLE holds (
  scope  TEXT COLLATE "C" PRIMARY KEY,
  by     TEXT COLLATE "C" NOT NULL,
  reason TEXT COLLATE "C" NOT NULL,
  at     BIGINT NOT NULL
);

ALTER TABLE nodes ADD COLUMN incarnation TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
