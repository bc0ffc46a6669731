#!/usr/bin/env bash
# Subject: etcd 3.4.23 (Debian 12, etcd-server), its JSON gateway with --client-cert-auth and with etcd's own authentication.
# A good guess: who calls by user and password is that user, and the certificate only opens the connection; or its common name is
# the user, as it is for calls by gRPC. The same certificate works at the gateway as long as the authentication is off.
# Behaviour seen: once the authentication is on, each call by a client whose certificate has a common name is refused, also the
# one that asks for a token with the right password: status 400, plain text instead of JSON. A certificate without one (empty
# subject) is taken. cert-manager and most guides put a common name into every certificate, and "auth enable" is the last step of a set-up.
# Output seen:
#   off: with a common name 200, without 200
#   on, right password: with a common name 400 CommonName of client sending a request against gateway will be
#     ignored and not used as expected
#   on, right password: without 200 token
set -euo pipefail
command -v etcd >/dev/null || { echo "etcd is not on this machine (apt-get install etcd-server)" >&2; exit 1; }
dir=$(mktemp -d)
etcd_pid=
trap 'if [ -n "$etcd_pid" ]; then kill "$etcd_pid"; fi; rm -rf "$dir"' EXIT
cd "$dir"
new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -subj "$2" "${@:3}" 2>/dev/null; }
new ca "/CN=authority" -x509 -days 2 > ca.crt
# The member calls itself by its own certificate, so it is for clients too.
printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' > names
for one in member:/ named:/CN=somebody unnamed:/; do
    name=${one%%:*}
    new "$name" "${one#*:}" \
        | openssl x509 -req -days 2 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names -out "$name.crt" 2>/dev/null
done
read -r client peer < <(python3 -c 'import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(each.getsockname()[1] for each in sockets))')
url=https://127.0.0.1:$client
etcd --data-dir data --log-level error --listen-client-urls "$url" --advertise-client-urls "$url" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "default=http://127.0.0.1:$peer" \
    --cert-file member.crt --key-file member.key --trusted-ca-file ca.crt --client-cert-auth > etcd.log 2>&1 &
etcd_pid=$!
# Certificate, path, body; prints the status, and what was answered into the file "answer".
post() { curl -s -o answer -w '%{http_code}' --cacert ca.crt --cert "$1.crt" --key "$1.key" -d "$3" "$url/v3/$2"; }
until [ "$(post unnamed kv/range '{"key":"aw=="}')" = 200 ]; do sleep 0.2; done
for name in named unnamed; do declare "$name=$(post "$name" kv/range '{"key":"aw=="}')"; done
echo "off: with a common name $named, without $unnamed"
post unnamed auth/user/add '{"name":"root","password":"secret"}' > /dev/null
post unnamed auth/user/grant '{"user":"root","role":"root"}' > /dev/null
post unnamed auth/enable '{}' > /dev/null
status=$(post named auth/authenticate '{"name":"root","password":"secret"}')
echo "on, right password: with a common name $status $(tr -d '\n' < answer)"
status=$(post unnamed auth/authenticate '{"name":"root","password":"secret"}')
echo "on, right password: without $status $(grep -o token answer)"
