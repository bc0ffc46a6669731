-- Secrets of the deployment, sealed by a key that the database does not have (ARAGORA_SECRETS_KEY). No row of the log names them,
-- and no region replicates them.
create table secrets (
    name        text primary key,
    sealed      bytea not null,
    created_at  timestamptz not null default now(),
    changed_at  timestamptz not null default now()
);
