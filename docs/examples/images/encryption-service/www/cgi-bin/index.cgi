#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
printf 'hostname: %s\nservice: %s %s\n' "$(hostname)" "$APP_NAME" "$APP_VERSION"
