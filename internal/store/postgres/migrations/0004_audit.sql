-- The audit log: parts of the logs of several processes, and their pages.
CREATE TABLE IF NOT EXISTS audit_parts (
    id          text COLLATE "C" PRIMARY KEY,
    before_seq  bigint           NOT NULL, -- the record before the first one
    before_hash bytea            NOT NULL,
    head_seq    bigint           NOT NULL, -- the last one
    head_hash   bytea            NOT NULL,
    written     timestamptz      NOT NULL
);

CREATE TABLE IF NOT EXISTS audit_pages (
    part        text COLLATE "C" NOT NULL,
    before_seq  bigint           NOT NULL,
    before_hash bytea            NOT NULL,
    last_seq    bigint           NOT NULL,
    last_hash   bytea            NOT NULL,
    written     timestamptz      NOT NULL,
    lines       bytea            NOT NULL,
    PRIMARY KEY (part, before_seq)
);
