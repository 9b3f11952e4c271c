-- The feed of bindings is their order of seq: there is one writer, and no
-- binding is ever removed.
CREATE INDEX bindings_feed ON bindings (tenant, seq);

CREATE TABLE notes (
    name    TEXT    NOT NULL PRIMARY KEY,
    value   BLOB    NOT NULL,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
