//go:build ignore

// Draws the pictures of the demo's clip, a sunrise, as raw RGB video on
// standard output. scripts/clip.sh makes the clip of them.
package main

import (
	"bufio"
	"math"
	"os"
)

const (
	width, height = 768, 432
	rate, seconds = 25, 8
)

type rgb struct{ r, g, b float64 }

func mix(a, b rgb, t float64) rgb {
	t = math.Max(0, math.Min(1, t))
	return rgb{a.r + (b.r-a.r)*t, a.g + (b.g-a.g)*t, a.b + (b.b-a.b)*t}
}

func smooth(a, b, x float64) float64 {
	t := math.Max(0, math.Min(1, (x-a)/(b-a)))
	return t * t * (3 - 2*t)
}

// hill is one of the layers, from the far one to the near one.
type hill struct{ base, size, length, speed, phase float64 }

var hills = []hill{
	{0.62, 0.050, 2.3, 0.010, 0.3}, {0.70, 0.060, 1.9, 0.022, 2.1},
	{0.79, 0.060, 1.4, 0.040, 4.0}, {0.90, 0.070, 1.0, 0.070, 0.9},
}

func (h hill) top(x, t float64) float64 {
	u := x/h.length*5 + t*h.speed*5 + h.phase
	return h.base - h.size*(0.62*math.Sin(u)+0.28*math.Sin(2.3*u+1.3)+0.10*math.Sin(5.1*u))
}

func picture(t float64) []byte {
	out := make([]byte, 0, width*height*3)
	day := smooth(0, 0.9, t)
	top, middle, low := mix(rgb{9, 12, 40}, rgb{44, 92, 164}, day), mix(rgb{38, 24, 78}, rgb{236, 148, 120}, day), mix(rgb{96, 46, 96}, rgb{255, 214, 150}, day)
	sunX, sunY := 0.60-0.06*t, 0.72-0.42*smooth(-0.1, 1.1, t)
	far, near := mix(rgb{58, 40, 92}, rgb{148, 112, 150}, day), mix(rgb{8, 8, 24}, rgb{22, 30, 56}, day)
	for py := range height {
		for px := range width {
			x, y := float64(px)/height, float64(py)/height
			var c rgb
			if y < 0.42 {
				c = mix(top, middle, y/0.42)
			} else {
				c = mix(middle, low, (y-0.42)/0.26)
			}
			d := math.Hypot(x-sunX*width/height, y-sunY)
			c = mix(c, rgb{255, 226, 170}, 0.75*day*math.Exp(-d*d*18))
			c = mix(c, rgb{255, 247, 222}, smooth(0.078, 0.072, d))
			for i, h := range hills {
				edge := h.top(x, t*8) - y
				near := mix(far, near, float64(i)/float64(len(hills)-1))
				near = mix(near, low, 0.35*day*(1-float64(i)/3)*smooth(-0.25, 0, edge))
				c = mix(c, near, smooth(0.0012, -0.0012, edge))
			}
			out = append(out, byte(c.r), byte(c.g), byte(c.b))
		}
	}
	return out
}

func main() {
	w := bufio.NewWriter(os.Stdout)
	for i := range rate * seconds {
		if _, err := w.Write(picture(float64(i) / (rate * seconds))); err != nil {
			os.Exit(1)
		}
	}
	if w.Flush() != nil {
		os.Exit(1)
	}
}
