module spekeasy

go 1.26

require (
	github.com/Eyevinn/mp4ff v0.56.0
	google.golang.org/protobuf v1.36.12
)
