#!/bin/sh
# Read a photograph from any language: one POST to the page of `medtex-edge run --serve`, no Python in the client.
#
#   medtex-edge run eye.medtex --camera --serve            # on the device, in another terminal
#   examples/read_over_http.sh photo.jpg                   # prints the reading as JSON
#   examples/read_over_http.sh photo.jpg http://device:8710 "$TOKEN"
#
# The same in JavaScript:
#   const answer = await fetch("http://127.0.0.1:8710/read?saliency=1", { method: "POST", body: file,
#     headers: { "Content-Type": "image/jpeg", "Authorization": `Bearer ${token}` } });
#   const reading = await answer.json();  // reading.verdict, reading.probabilities, reading.saliency
set -eu
photograph=$1
address=${2:-http://127.0.0.1:8710}
token=${3:-}
# --fail-with-body: an error is printed too ({"error": {"expected", "got", "next"}}), and ends this with a status.
curl --silent --show-error --fail-with-body --max-time 60 \
  --header "Content-Type: application/octet-stream" ${token:+--header "Authorization: Bearer $token"} \
  --data-binary "@$photograph" "$address/read"
echo
