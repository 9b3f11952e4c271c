-- The audit log: parts of the logs of several processes, and their pages.
CREATE TABLE audit_parts (
    id          TEXT    PRIMARY KEY,
    before_seq  INTEGER NOT NULL, -- the record before the first one
    before_hash BLOB    NOT NULL,
    head_seq    INTEGER NOT NULL, -- the last one
    head_hash   BLOB    NOT NULL,
    written     INTEGER NOT NULL
) STRICT;

CREATE TABLE audit_pages (
    part        TEXT    NOT NULL,
    before_seq  INTEGER NOT NULL,
    before_hash BLOB    NOT NULL,
    last_seq    INTEGER NOT NULL,
    last_hash   BLOB    NOT NULL,
    written     INTEGER NOT NULL,
    lines       BLOB    NOT NULL,
    PRIMARY KEY (part, before_seq)
) STRICT;
