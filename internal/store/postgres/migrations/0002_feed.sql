-- The feed of bindings. Transactions do not become visible in the order in
-- which they drew their numbers, so whoever reads the feed numbers what is
-- new, one reader of a tenant at a time; NULL is not numbered yet.

ALTER TABLE bindings ADD COLUMN IF NOT EXISTS seq bigint;

CREATE UNIQUE INDEX IF NOT EXISTS bindings_feed ON bindings (tenant, seq) WHERE seq IS NOT NULL;

CREATE INDEX IF NOT EXISTS bindings_new ON bindings (tenant, first_seen, kid, identity) WHERE seq IS NULL;

-- The highest number given to a binding of a tenant. The row is also the lock
-- of whoever numbers.
CREATE TABLE IF NOT EXISTS feeds (
    tenant text COLLATE "C" NOT NULL PRIMARY KEY,
    seq    bigint           NOT NULL
);

CREATE TABLE IF NOT EXISTS notes (
    name    text COLLATE "C" NOT NULL PRIMARY KEY,
    value   bytea            NOT NULL,
    version bigint           NOT NULL
);
