-- A database of schema 4 with rows, as pg_dump writes it.
CREATE TABLE public.bindings (
    tenant text NOT NULL COLLATE pg_catalog."C",
    kid bytea NOT NULL,
    identity bytea NOT NULL,
    content bytea NOT NULL,
    content_id text NOT NULL,
    requested bytea NOT NULL,
    track text NOT NULL,
    scheme text NOT NULL,
    period_id text NOT NULL,
    period_index text NOT NULL,
    period_start text NOT NULL,
    period_end text NOT NULL,
    profile text NOT NULL,
    systems jsonb NOT NULL,
    iv text NOT NULL,
    first_seen timestamp with time zone NOT NULL,
    last_seen timestamp with time zone NOT NULL,
    seq bigint,
    CONSTRAINT bindings_kid_check CHECK ((octet_length(kid) = 16)),
    CONSTRAINT bindings_requested_check CHECK ((octet_length(requested) = 16))
);

CREATE TABLE public.content_keys (
    tenant text NOT NULL COLLATE pg_catalog."C",
    kid bytea NOT NULL,
    wrapped bytea NOT NULL,
    data_key bigint NOT NULL,
    source text NOT NULL,
    content_id text NOT NULL,
    scheme text NOT NULL,
    created timestamp with time zone NOT NULL,
    deleted timestamp with time zone,
    CONSTRAINT content_keys_kid_check CHECK ((octet_length(kid) = 16))
);

CREATE TABLE public.data_keys (
    tenant text NOT NULL COLLATE pg_catalog."C",
    id bigint NOT NULL,
    kek text NOT NULL,
    wrapped bytea NOT NULL,
    created timestamp with time zone NOT NULL
);

CREATE TABLE public.feeds (
    tenant text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL
);

CREATE TABLE public.notes (
    name text NOT NULL COLLATE pg_catalog."C",
    value bytea NOT NULL,
    version bigint NOT NULL
);

CREATE TABLE public.spekeasy_schema (
    version integer NOT NULL,
    applied timestamp with time zone DEFAULT now() NOT NULL
);

INSERT INTO public.bindings VALUES ('acme', '\x01000000000000000000000000000001', '\x6e0aeffe9133f4bfeb56dff99535892e9262150d9fbae0c48ba7eca43118f3b3', '\x8a6ba32c9bed6ce703f999f9af6ec236', 'movie', '\x01000000000000000000000000000001', 'VIDEO', 'cbcs', '', '', '', '', '2.0', '{"edef8ba9-79d6-4ace-a3c8-27dcd51d21ed": 1}', '', '2026-11-22 12:00:00.123456+00', '2026-11-22 12:00:00.123456+00', 1);

INSERT INTO public.content_keys VALUES ('acme', '\x01000000000000000000000000000001', '\x0001ff', 1, 'random', 'movie', 'cbcs', '2026-11-22 12:00:00.123456+00', NULL);
INSERT INTO public.content_keys VALUES ('acme', '\x02000000000000000000000000000002', '\x', 1, 'import', '', '', '2026-11-22 12:00:00.123456+00', '2026-11-23 12:00:00+00');

INSERT INTO public.data_keys VALUES ('_custody', 1, 'kek', '\x01', '2026-11-22 12:00:00.123456+00');
INSERT INTO public.data_keys VALUES ('acme', 1, 'kek', '\x0102', '2026-11-22 12:00:00.123456+00');

INSERT INTO public.feeds VALUES ('acme', 1);

INSERT INTO public.notes VALUES ('webhook/acme/cms', '\x7b7d', 3);

INSERT INTO public.spekeasy_schema VALUES (1, '2026-11-22 12:00:00+00');
INSERT INTO public.spekeasy_schema VALUES (2, '2026-11-22 12:00:00+00');
INSERT INTO public.spekeasy_schema VALUES (3, '2026-11-22 12:00:00+00');
INSERT INTO public.spekeasy_schema VALUES (4, '2026-11-22 12:00:00+00');

ALTER TABLE ONLY public.bindings
    ADD CONSTRAINT bindings_pkey PRIMARY KEY (tenant, kid, identity);

ALTER TABLE ONLY public.content_keys
    ADD CONSTRAINT content_keys_pkey PRIMARY KEY (tenant, kid);

ALTER TABLE ONLY public.data_keys
    ADD CONSTRAINT data_keys_pkey PRIMARY KEY (tenant, id);

ALTER TABLE ONLY public.feeds
    ADD CONSTRAINT feeds_pkey PRIMARY KEY (tenant);

ALTER TABLE ONLY public.notes
    ADD CONSTRAINT notes_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.spekeasy_schema
    ADD CONSTRAINT spekeasy_schema_pkey PRIMARY KEY (version);

CREATE INDEX bindings_content ON public.bindings USING btree (tenant, content, kid, identity);

CREATE UNIQUE INDEX bindings_feed ON public.bindings USING btree (tenant, seq) WHERE (seq IS NOT NULL);

CREATE INDEX bindings_new ON public.bindings USING btree (tenant, first_seen, kid, identity) WHERE (seq IS NULL);

CREATE INDEX bindings_requested ON public.bindings USING btree (tenant, requested, kid, identity) WHERE (requested <> kid);

ALTER TABLE ONLY public.content_keys
    ADD CONSTRAINT content_keys_tenant_data_key_fkey FOREIGN KEY (tenant, data_key) REFERENCES public.data_keys(tenant, id);

CREATE TABLE public.documents (
    kind text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    body bytea NOT NULL,
    changed timestamp with time zone NOT NULL,
    deleted boolean NOT NULL,
    sealed bytea NOT NULL,
    owner text COLLATE pg_catalog."C",
    data_key bigint
);

CREATE TABLE public.documents_revision (
    one integer NOT NULL,
    revision bigint NOT NULL,
    CONSTRAINT documents_revision_one_check CHECK ((one = 1))
);

INSERT INTO public.documents_revision VALUES (1, 0);

ALTER TABLE ONLY public.documents
    ADD CONSTRAINT documents_pkey PRIMARY KEY (kind, id);

ALTER TABLE ONLY public.documents_revision
    ADD CONSTRAINT documents_revision_pkey PRIMARY KEY (one);

CREATE INDEX documents_data_key ON public.documents USING btree (owner, data_key) WHERE (owner IS NOT NULL);

ALTER TABLE ONLY public.documents
    ADD CONSTRAINT documents_owner_data_key_fkey FOREIGN KEY (owner, data_key) REFERENCES public.data_keys(tenant, id);

CREATE TABLE public.audit_parts (
    id text NOT NULL COLLATE pg_catalog."C",
    before_seq bigint NOT NULL,
    before_hash bytea NOT NULL,
    head_seq bigint NOT NULL,
    head_hash bytea NOT NULL,
    written timestamp with time zone NOT NULL
);

CREATE TABLE public.audit_pages (
    part text NOT NULL COLLATE pg_catalog."C",
    before_seq bigint NOT NULL,
    before_hash bytea NOT NULL,
    last_seq bigint NOT NULL,
    last_hash bytea NOT NULL,
    written timestamp with time zone NOT NULL,
    lines bytea NOT NULL
);

ALTER TABLE ONLY public.audit_parts
    ADD CONSTRAINT audit_parts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.audit_pages
    ADD CONSTRAINT audit_pages_pkey PRIMARY KEY (part, before_seq);
