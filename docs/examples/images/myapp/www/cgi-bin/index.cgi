#!/bin/sh
# Says who answers. Of the password it says that there is one, never which.
if [ -n "${DB_PASSWORD:-}" ]; then
    password="set (${#DB_PASSWORD} characters)"
else
    password="not set"
fi
printf 'Content-Type: text/plain\r\n\r\n'
printf 'hostname: %s\nversion: %s\nDB_USERNAME: %s\nDB_PASSWORD: %s\n' \
    "$(hostname)" "$APP_VERSION" "${DB_USERNAME:-not set}" "$password"
