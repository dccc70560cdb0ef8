-- Runs once, when the data folder is made: the role and the database that Rejse uses.
-- The role owns its database and is no superuser, so what it can do ends there.
\getenv password DATABASE_PASSWORD
CREATE ROLE rejse LOGIN PASSWORD :'password';
CREATE DATABASE rejse OWNER rejse;
