-- Texts that rows are found by are compared by their bytes (COLLATE "C"): the
-- order of any other collation can change with the operating system, and an
-- index that was built by the old order then hides keys.

CREATE TABLE IF NOT EXISTS data_keys (
    tenant  text COLLATE "C" NOT NULL,
    id      bigint           NOT NULL,
    kek     text             NOT NULL,
    wrapped bytea            NOT NULL,
    created timestamptz      NOT NULL,
    PRIMARY KEY (tenant, id)
);

CREATE TABLE IF NOT EXISTS content_keys (
    tenant     text COLLATE "C" NOT NULL,
    kid        bytea            NOT NULL CHECK (octet_length(kid) = 16),
    wrapped    bytea            NOT NULL,
    data_key   bigint           NOT NULL,
    source     text             NOT NULL,
    content_id text             NOT NULL,
    scheme     text             NOT NULL,
    created    timestamptz      NOT NULL,
    deleted    timestamptz,
    PRIMARY KEY (tenant, kid),
    FOREIGN KEY (tenant, data_key) REFERENCES data_keys (tenant, id)
);

CREATE TABLE IF NOT EXISTS bindings (
    tenant       text COLLATE "C" NOT NULL,
    kid          bytea            NOT NULL CHECK (octet_length(kid) = 16),
    identity     bytea            NOT NULL, -- SHA-256 of what identifies it
    content      bytea            NOT NULL, -- half the SHA-256 of content_id, which can be too long to index
    content_id   text             NOT NULL,
    requested    bytea            NOT NULL CHECK (octet_length(requested) = 16),
    track        text             NOT NULL,
    scheme       text             NOT NULL,
    period_id    text             NOT NULL,
    period_index text             NOT NULL,
    period_start text             NOT NULL,
    period_end   text             NOT NULL,
    profile      text             NOT NULL,
    systems      jsonb            NOT NULL, -- an object with the system IDs as its names
    iv           text             NOT NULL,
    first_seen   timestamptz      NOT NULL,
    last_seen    timestamptz      NOT NULL,
    PRIMARY KEY (tenant, kid, identity)
);

CREATE INDEX IF NOT EXISTS bindings_content ON bindings (tenant, content, kid, identity);

CREATE INDEX IF NOT EXISTS bindings_requested ON bindings (tenant, requested, kid, identity) WHERE requested <> kid;
