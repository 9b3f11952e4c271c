#!/bin/sh
# Makes the demo's clip, internal/demo/clip: video and audio in a fragmented
# MP4 file each, with a fragment for every two seconds. It needs ffmpeg, and
# only runs when the clip is to change.
set -eu
cd "$(dirname "$0")/.."
clip=internal/demo/clip
to="-movflags +frag_keyframe+empty_moov+default_base_moof+omit_tfhd_offset -map_metadata -1 -fflags +bitexact -y -loglevel error"
# shellcheck disable=SC2086 # a list of options
go run scripts/clip.go | ffmpeg -f rawvideo -pixel_format rgb24 -video_size 768x432 -framerate 25 -i - \
	-c:v libx264 -profile:v baseline -level 3.0 -pix_fmt yuv420p -preset veryslow -tune animation -crf 25 \
	-g 50 -keyint_min 50 -sc_threshold 0 -flags +bitexact $to $clip/video.mp4
# A chord that opens slowly: A, E, A, C sharp, E with a slow tremolo.
# shellcheck disable=SC2086
ffmpeg -f lavfi -i "aevalsrc='min(t/3,1)*min((8-t)/1.5,1)*0.14*(sin(2*PI*110*t)+0.8*sin(2*PI*164.81*t)+0.7*sin(2*PI*220.3*t)*(0.8+0.2*sin(PI*t))+min(max(t-1.5,0)/2,1)*0.6*sin(2*PI*277.18*t)+min(max(t-3,0)/2,1)*0.4*sin(2*PI*329.9*t))':s=44100:d=8" \
	-c:a aac -b:a 48k -ac 1 -flags +bitexact -frag_duration 2000000 -movflags +empty_moov+default_base_moof+omit_tfhd_offset -map_metadata -1 -fflags +bitexact -y -loglevel error $clip/audio.mp4
ls -l $clip
