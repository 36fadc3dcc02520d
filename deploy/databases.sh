#!/bin/sh
# Run once by the Postgres image, on an empty volume: a role and a database for each of the two.
set -eu
for name in farebox openwebui; do
  case $name in
    farebox) password=$FAREBOX_DB_PASSWORD ;;
    openwebui) password=$OPENWEBUI_DB_PASSWORD ;;
  esac
  psql -v ON_ERROR_STOP=1 -v name="$name" -v password="$password" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
SQL
done
