-- Runs at every start of embedded PostgreSQL, as its superuser: what the services are is no superuser and owns
-- the tables, those of a folder that was made when they still were one, too.
\set ON_ERROR_STOP on
DO $$
DECLARE
    relation text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rejse') THEN
        CREATE ROLE rejse LOGIN;
        ALTER DATABASE postgres OWNER TO rejse;
        ALTER SCHEMA public OWNER TO rejse;
    END IF;
    FOR relation IN
        SELECT oid::regclass FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
            AND relowner <> 'rejse'::regrole
    LOOP
        EXECUTE 'ALTER TABLE ' || relation || ' OWNER TO rejse';
    END LOOP;
END
$$;
