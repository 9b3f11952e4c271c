-- What the admin API manages: tenants, their credentials, and its own.
CREATE TABLE documents (
    kind     TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    changed  INTEGER NOT NULL,
    deleted  INTEGER NOT NULL,
    sealed   BLOB    NOT NULL,
    owner    TEXT, -- of the data key that sealed it; NULL without secrets
    data_key INTEGER,
    PRIMARY KEY (kind, id),
    FOREIGN KEY (owner, data_key) REFERENCES data_keys (tenant, id)
) STRICT;

CREATE INDEX documents_data_key ON documents (owner, data_key) WHERE owner IS NOT NULL;

-- One row: how many changes there were.
CREATE TABLE documents_revision (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT;

INSERT INTO documents_revision (one, revision) VALUES (1, 0);
