-- What must be remembered of waves: who is in them stands in the routes file.
CREATE TABLE waves (
  name         TEXT COLLATE "C" PRIMARY KEY,
  generation   BIGINT NOT NULL,
  started      BIGINT NOT NULL,
  started_by   TEXT COLLATE "C" NOT NULL,
  flipped      BIGINT NOT NULL,
  flipped_by   TEXT COLLATE "C" NOT NULL,
  soak_until   BIGINT NOT NULL,
  rolled       BIGINT NOT NULL,
  rolled_by    TEXT COLLATE "C" NOT NULL,
  rolled_why   TEXT COLLATE "C" NOT NULL,
  completed    BIGINT NOT NULL,
  completed_by TEXT COLLATE "C" NOT NULL,
  gate         TEXT COLLATE "C" NOT NULL,
  gate_why     TEXT COLLATE "C" NOT NULL,
  gate_at      BIGINT NOT NULL
);

-- The history of a wave is that of its operations.
CREATE INDEX operations_wave ON operations (wave) WHERE wave <> '';
