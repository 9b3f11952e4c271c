module spekeasy

go 1.26
