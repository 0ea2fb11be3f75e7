/* One end of a PseudoTCP stream by libnice over a UDP socket, to compare with and to talk to.
 *
 *   nice_stream connect|listen LOCAL_IP:PORT REMOTE_IP:PORT SEND_BYTES RECEIVE_BYTES
 *
 * The stream carries bytes 0,1,...,250,0,1,... both ways. When all has arrived it prints "received BYTES SECONDS"
 * (or "wrong OFFSET") and goes on acknowledging until standard input is closed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <nice/pseudotcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PERIOD 251
#define CHUNK (PERIOD * 256)

static int udp;
static PseudoTcpSocket *tcp;
static unsigned char pattern[CHUNK + PERIOD];
static guint64 to_send, sent, to_receive, received;
static gint64 first_byte;

static void pump(void) {
  static char buffer[CHUNK];
  for (gint n; (n = pseudo_tcp_socket_recv(tcp, buffer, sizeof buffer)) > 0;) {
    if (received == 0) first_byte = g_get_monotonic_time();
    if (memcmp(buffer, pattern + received % PERIOD, n) != 0) {
      printf("wrong %llu\n", (unsigned long long)received);
      exit(1);
    }
    received += n;
    if (received >= to_receive && to_receive > 0) {
      printf("received %llu %.6f\n", (unsigned long long)received, (g_get_monotonic_time() - first_byte) / 1e6);
      fflush(stdout);
    }
  }
  while (sent < to_send) {
    guint64 left = to_send - sent;
    gint n = pseudo_tcp_socket_send(tcp, (char *)pattern + sent % PERIOD, left < CHUNK ? left : CHUNK);
    if (n <= 0) break;
    sent += n;
  }
}

static void opened(PseudoTcpSocket *s, gpointer data) { (void)s, (void)data; pump(); }
static void closed(PseudoTcpSocket *s, guint32 error, gpointer data) { (void)s, (void)data; fprintf(stderr, "closed %u\n", error); }
static PseudoTcpWriteResult write_packet(PseudoTcpSocket *s, const gchar *packet, guint32 length, gpointer data) {
  (void)s, (void)data;
  /* A refused connection is an answer to an earlier datagram. */
  while (send(udp, packet, length, 0) < 0)
    if (errno != ECONNREFUSED && errno != EINTR) return errno == EMSGSIZE ? WR_TOO_LARGE : WR_SUCCESS;
  return WR_SUCCESS;
}

static struct sockaddr_in parse(char *text) {
  char *port = strchr(text, ':');
  if (!port) exit(2);
  *port++ = 0;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
  if (!inet_aton(text, &address.sin_addr)) exit(2);
  return address;
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = i % PERIOD;
  to_send = strtoull(argv[4], NULL, 10);
  to_receive = strtoull(argv[5], NULL, 10);
  struct sockaddr_in local = parse(argv[2]), remote = parse(argv[3]);
  int size = 4 << 20;
  udp = socket(AF_INET, SOCK_DGRAM, 0);
  setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  setsockopt(udp, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  if (bind(udp, (void *)&local, sizeof local) || connect(udp, (void *)&remote, sizeof remote)) return perror("udp"), 1;
  fcntl(udp, F_SETFL, O_NONBLOCK);

  PseudoTcpCallbacks callbacks = {NULL, opened, opened, opened, closed, write_packet};
  tcp = pseudo_tcp_socket_new(0, &callbacks);
  pseudo_tcp_socket_notify_mtu(tcp, 1500);
  if (strcmp(argv[1], "connect") == 0) pseudo_tcp_socket_connect(tcp);

  static char packet[65536];
  for (;;) {
    guint64 due = 0;
    if (!pseudo_tcp_socket_get_next_clock(tcp, &due)) break;
    gint64 wait = (gint64)due - g_get_monotonic_time() / 1000;
    struct pollfd fds[2] = {{udp, POLLIN, 0}, {0, POLLIN, 0}};
    poll(fds, 2, wait < 0 ? 0 : wait > 100 ? 100 : (int)wait);
    if (fds[1].revents && read(0, packet, sizeof packet) <= 0) return 0;
    for (ssize_t n; (n = recv(udp, packet, sizeof packet, 0)) > 0 || (n < 0 && errno == ECONNREFUSED);)
      if (n > 0) pseudo_tcp_socket_notify_packet(tcp, packet, n);
    pseudo_tcp_socket_notify_clock(tcp);
    pump();
  }
  return 0;
}
