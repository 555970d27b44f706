-- What must be remembered of waves: who is in them stands in the routes file.
CREATE TABLE waves (
  name         TEXT PRIMARY KEY,
  generation   INTEGER NOT NULL,
  started      INTEGER NOT NULL,
  started_by   TEXT NOT NULL,
  flipped      INTEGER NOT NULL,
  flipped_by   TEXT NOT NULL,
  soak_until   INTEGER NOT NULL,
  rolled       INTEGER NOT NULL,
  rolled_by    TEXT NOT NULL,
  rolled_why   TEXT NOT NULL,
  completed    INTEGER NOT NULL,
  completed_by TEXT NOT NULL,
  gate         TEXT NOT NULL,
  gate_why     TEXT NOT NULL,
  gate_at      INTEGER NOT NULL
) WITHOUT ROWID;

-- The history of a wave is that of its operations.
CREATE INDEX operations_wave ON operations (wave) WHERE wave <> '';
