-- What the admin API manages: tenants, their credentials, and its own.
CREATE TABLE IF NOT EXISTS documents (
    kind     text COLLATE "C" NOT NULL,
    id       text COLLATE "C" NOT NULL,
    version  bigint           NOT NULL,
    body     bytea            NOT NULL,
    changed  timestamptz      NOT NULL,
    deleted  boolean          NOT NULL,
    sealed   bytea            NOT NULL,
    owner    text COLLATE "C", -- of the data key that sealed it; NULL without secrets
    data_key bigint,
    PRIMARY KEY (kind, id),
    FOREIGN KEY (owner, data_key) REFERENCES data_keys (tenant, id)
);

CREATE INDEX IF NOT EXISTS documents_data_key ON documents (owner, data_key) WHERE owner IS NOT NULL;

-- One row: how many changes there were.
CREATE TABLE IF NOT EXISTS documents_revision (
    one      integer PRIMARY KEY CHECK (one = 1),
    revision bigint NOT NULL
);

INSERT INTO documents_revision (one, revision) VALUES (1, 0) ON CONFLICT (one) DO NOTHING;
