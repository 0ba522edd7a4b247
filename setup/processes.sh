# shellcheck shell=bash
# For scripts that run a server and a publisher: start, wait for, and stop children. Sourced by demo/run and
# loadtest/run-smoke, which set `logs` to a folder before the first start.

declare -A children=() # name → pid

fail() {
  echo "$*" >&2
  exit 1
}

# Milliseconds on a clock that only differences are taken of.
now_ms() {
  local us=${EPOCHREALTIME/[.,]/}
  echo $((us / 1000))
}

seconds_since() {
  local took_ms=$(($(now_ms) - $1))
  printf '%d.%d s' $((took_ms / 1000)) $((took_ms % 1000 / 100))
}

# start NAME COMMAND…   runs it in the background; what it says goes to $logs/NAME.log.
start() {
  local name=$1
  shift
  "$@" </dev/null >"${logs:?}/$name.log" 2>&1 &
  children[$name]=$!
}

# Ends the script when a child has died, with the end of its log.
check_children() {
  local name
  for name in "${!children[@]}"; do
    kill -0 "${children[$name]}" 2>/dev/null || report_death "$name"
  done
}

report_death() {
  local status=0
  wait "${children[$1]}" || status=$?
  unset "children[$1]"
  echo >&2
  echo "$1 has ended (status $status). The end of its log, ${logs:?}/$1.log:" >&2
  tail -n 15 "$logs/$1.log" | sed 's/^/  /' >&2
  exit 1
}

# wait_until WHAT DEADLINE_S COMMAND…   tries the command until it succeeds, a dot a second on a terminal.
wait_until() {
  local what=$1 deadline_s=$2 tries=0
  shift 2
  local started
  started=$(now_ms)
  until "$@" >/dev/null 2>&1; do
    check_children
    (($(now_ms) - started < deadline_s * 1000)) || fail "No $what after $deadline_s s; the logs are in ${logs:?}."
    tries=$((tries + 1))
    [[ ! -t 1 ]] || ((tries % 5)) || printf '.'
    sleep 0.2
  done
  [[ ! -t 1 ]] || ((tries < 5)) || echo
  # What answered may have been somebody else's server, on whose ports ours has failed.
  check_children
}

# Asks every child to end, and ends what has not after five seconds.
stop_children() {
  local pid pids=("${children[@]}") started
  children=()
  started=$(now_ms)
  for pid in "${pids[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
  done
  for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do
      (($(now_ms) - started < 5000)) || kill -KILL "$pid" 2>/dev/null || true
      sleep 0.05
    done
    wait "$pid" 2>/dev/null || true
  done
}

# refuse_if_answering URL   ends the script when a server is there already: it would be taken for ours.
refuse_if_answering() {
  ! curl --silent --output /dev/null --max-time 2 "$1" || fail "Something answers at $1 already: end that first."
}

# playable URL [N]   whether there is a media playlist with N segments (1).
playable() {
  local found
  found=$(curl --silent --fail --max-time 2 "$1" | grep -c '^#EXTINF:')
  ((found >= ${2:-1}))
}

# publish_test_stream RTMP_URL   a 720p30 stream with the time and the frame's number burnt in, and a beep a second.
publish_test_stream() {
  local clock=${logs:?}/clock.txt
  local font=/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf
  # shellcheck disable=SC1003 # backslashes are FFmpeg's escapes
  printf '%s' '%{localtime:%H\:%M\:%S.%3N}  frame %{frame_num}' >"$clock"
  local draw="drawtext=fontfile=$font:textfile=$clock:fontsize=48:fontcolor=white:box=1:boxcolor=black@0.7"
  local beep="0.2*sin(2*PI*1000*t)*lt(mod(t\,1)\,0.08)"
  start publisher ffmpeg -hide_banner -loglevel warning -nostdin \
    -re -f lavfi -i "testsrc2=size=1280x720:rate=30" \
    -re -f lavfi -i "aevalsrc=$beep|$beep:sample_rate=48000" \
    -vf "$draw:boxborderw=12:x=(w-text_w)/2:y=h-text_h-60,format=yuv420p" \
    -c:v libx264 -preset veryfast -tune zerolatency -g 30 -keyint_min 30 -sc_threshold 0 \
    -b:v 2500k -maxrate 2500k -bufsize 2500k \
    -c:a aac -b:a 128k -ar 48000 \
    -f flv "$1"
}
