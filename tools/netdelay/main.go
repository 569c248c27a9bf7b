// netdelay holds every IP packet that is routed into a TUN device for a fixed time and writes it back, so that the kernel
// routes it on from there. It stands in for a long line where the kernel has no netem. Loss is drawn from a seed.
//
// One reader stamps packets, one writer waits for the oldest: the delay is constant, so a queue in arrival order is
// enough. A heap with jitter was passed over, for reordering is another fault than distance.
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const packetBytesMax = 65536

type packet struct {
	due  time.Time
	data []byte
}

func openTun(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	var request struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.flags = unix.IFF_TUN | unix.IFF_NO_PI
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return -1, fmt.Errorf("attach to %s: %w", name, errno)
	}
	return fd, nil
}

func read(fd int, queue chan<- packet, delay time.Duration, lossPerMyriad uint, random *rand.Rand) error {
	buffer := make([]byte, packetBytesMax)
	for {
		n, err := unix.Read(fd, buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		due := time.Now().Add(delay)
		if lossPerMyriad > 0 && uint(random.IntN(10_000)) < lossPerMyriad {
			continue
		}
		data := make([]byte, n)
		copy(data, buffer[:n])
		select {
		case queue <- packet{due, data}:
		default: // A full queue drops, as a line's buffer does.
		}
	}
}

func write(fd int, queue <-chan packet) error {
	for p := range queue {
		if wait := time.Until(p.due); wait > 0 {
			time.Sleep(wait)
		}
		for {
			_, err := unix.Write(fd, p.data)
			if err == unix.EINTR {
				continue
			}
			// A packet that the kernel refuses (no route, bad checksum) is lost; a device that is gone ends us.
			if err == unix.EBADFD || err == unix.EBADF {
				return fmt.Errorf("write: %w", err)
			}
			break
		}
	}
	return nil
}

func main() {
	device := flag.String("dev", "", "name of the TUN device, made if missing")
	delay := flag.Duration("delay", 0, "one-way delay of each packet, such as 40ms")
	loss := flag.Uint("loss", 0, "packets lost in ten thousand")
	seed := flag.Uint64("seed", 1, "seed of the losses")
	length := flag.Int("queue", 65536, "packets held at most; more are dropped")
	flag.Parse()
	if *device == "" || *delay < 0 || *loss > 10_000 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: netdelay -dev NAME -delay 40ms [-loss 50] [-seed 1] [-queue 65536]")
		os.Exit(64)
	}
	fd, err := openTun(*device)
	if err != nil {
		log.Fatal(err)
	}
	queue := make(chan packet, *length)
	failed := make(chan error, 2)
	go func() { failed <- read(fd, queue, *delay, *loss, rand.New(rand.NewPCG(*seed, 0))) }()
	go func() { failed <- write(fd, queue) }()
	fmt.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-failed:
		log.Fatal(err)
	case <-stop:
	}
}
