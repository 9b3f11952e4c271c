-- Times are microseconds since 1970 UTC; 0 stands for none.

-- One row: which database this is, and how many transactions it has seen. The
-- mark file beside the database repeats both.
CREATE TABLE progress (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    database BLOB    NOT NULL,
    commits  INTEGER NOT NULL
) STRICT;

INSERT INTO progress (one, database, commits) VALUES (1, randomblob(16), 0);

CREATE TABLE data_keys (
    tenant  TEXT    NOT NULL,
    id      INTEGER NOT NULL,
    kek     TEXT    NOT NULL,
    wrapped BLOB    NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE content_keys (
    tenant     TEXT    NOT NULL,
    kid        BLOB    NOT NULL CHECK (length(kid) = 16),
    wrapped    BLOB    NOT NULL,
    data_key   INTEGER NOT NULL,
    source     TEXT    NOT NULL,
    content_id TEXT    NOT NULL,
    scheme     TEXT    NOT NULL,
    created    INTEGER NOT NULL,
    deleted    INTEGER NOT NULL,
    PRIMARY KEY (tenant, kid),
    FOREIGN KEY (tenant, data_key) REFERENCES data_keys (tenant, id)
) STRICT, WITHOUT ROWID;

-- A second witness of which key IDs exist, on pages of its own. Nothing reads
-- by it: when damage hides a row from the primary key, inserting a new key
-- under its ID fails here instead of succeeding.
CREATE UNIQUE INDEX content_keys_witness ON content_keys (kid, tenant);

CREATE TABLE bindings (
    seq          INTEGER PRIMARY KEY,
    identity     BLOB    NOT NULL, -- SHA-256 of what identifies it
    tenant       TEXT    NOT NULL,
    content_id   TEXT    NOT NULL,
    requested    BLOB    NOT NULL,
    kid          BLOB    NOT NULL,
    track        TEXT    NOT NULL,
    scheme       TEXT    NOT NULL,
    period_id    TEXT    NOT NULL,
    period_index TEXT    NOT NULL,
    period_start TEXT    NOT NULL,
    period_end   TEXT    NOT NULL,
    profile      TEXT    NOT NULL,
    systems      TEXT    NOT NULL, -- sorted, a space between
    iv           TEXT    NOT NULL,
    first_seen   INTEGER NOT NULL,
    last_seen    INTEGER NOT NULL
) STRICT;

CREATE INDEX bindings_content ON bindings (tenant, content_id);
CREATE UNIQUE INDEX bindings_kid ON bindings (tenant, kid, identity);
CREATE INDEX bindings_requested ON bindings (tenant, requested) WHERE requested <> kid;
