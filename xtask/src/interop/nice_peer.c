/* libnice behind the words of `cargo xtask peer`. */
#include <agent.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static NiceAgent *agent;
static guint stream;
static GMainLoop *loop;
static gboolean google;
static gint64 since;
static long to_send, expected, sent, received;
static guint32 sum_sent = 1, sum_received = 1;

static void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

static double elapsed(void) { return (double)(g_get_monotonic_time() - since) / 1e3; }

static guint32 adler(guint32 sum, const guint8 *bytes, gsize length) {
  guint32 low = sum & 0xffff, high = sum >> 16;
  for (gsize at = 0; at < length; at++) {
    low = (low + bytes[at]) % 65521;
    high = (high + low) % 65521;
  }
  return high << 16 | low;
}

static void tell_done(void) {
  static gboolean told;
  if (told || sent < to_send || received < expected) return;
  told = TRUE;
  say("done sent %ld %08x recv %ld %08x", sent, sum_sent, received, sum_received);
}

static gboolean send_next(gpointer unused) {
  (void)unused;
  guint8 datagram[1000];
  gsize length = (gsize)MIN((long)sizeof datagram, to_send - sent);
  if (length > 0) {
    for (gsize at = 0; at < length; at++) datagram[at] = (guint8)(((guint32)(sent + (long)at) * 2654435761u) >> 13);
    if (nice_agent_send(agent, stream, 1, (guint)length, (const gchar *)datagram) == (gint)length) {
      sum_sent = adler(sum_sent, datagram, length);
      sent += (long)length;
    }
  }
  tell_done();
  return sent < to_send;
}

static void on_received(NiceAgent *a, guint s, guint component, guint length, gchar *bytes, gpointer unused) {
  (void)a, (void)s, (void)component, (void)unused;
  sum_received = adler(sum_received, (const guint8 *)bytes, length);
  received += length;
  tell_done();
}

static void on_state(NiceAgent *a, guint s, guint component, guint state, gpointer unused) {
  (void)a, (void)s, (void)component, (void)unused;
  static gboolean connected, ready;
  say("state %s", nice_component_state_to_string(state));
  if ((state == NICE_COMPONENT_STATE_CONNECTED || state == NICE_COMPONENT_STATE_READY) && !connected) {
    connected = TRUE;
    say("connected %.3f", elapsed());
  }
  if (state == NICE_COMPONENT_STATE_READY && !ready) {
    ready = TRUE;
    say("nominated %.3f", elapsed());
  }
  if (state == NICE_COMPONENT_STATE_FAILED) g_main_loop_quit(loop);
}

static void tell_google(NiceCandidate *candidate) {
  char address[NICE_ADDRESS_STRING_LEN];
  nice_address_to_string(&candidate->addr, address);
  say("cand google %s %u %s %u.%03u %s -", address, nice_address_get_port(&candidate->addr),
      candidate->type == NICE_CANDIDATE_TYPE_HOST ? "local" : "stun", candidate->priority / 1000,
      candidate->priority % 1000, candidate->username);
}

/* Told once the peer's are known: libnice 0.1.21 aborts when a Google ping comes ahead of its candidate
   (priv_add_remote_candidate: selected_pair.local != NULL). */
static void tell_all_google(void) {
  static gboolean told;
  if (told) return;
  told = TRUE;
  GSList *list = nice_agent_get_local_candidates(agent, stream, 1);
  for (GSList *item = list; item; item = item->next) tell_google(item->data);
  g_slist_free_full(list, (GDestroyNotify)nice_candidate_free);
}

static void on_candidate(NiceAgent *a, NiceCandidate *candidate, gpointer unused) {
  (void)unused;
  if (google) return;
  gchar *text = nice_agent_generate_local_candidate_sdp(a, candidate);
  say("cand %s", text + strlen("a="));
  g_free(text);
}

static void on_gathered(NiceAgent *a, guint s, gpointer unused) {
  (void)a, (void)s, (void)unused;
  say("gathering-done");
}

/* ADDRESS PORT TYPE PREFERENCE USERNAME PASSWORD */
static NiceCandidate *parse_google(const char *text) {
  char address[64], type[16], username[300], password[300];
  unsigned port;
  double preference;
  if (sscanf(text, "%63s %u %15s %lf %299s %299s", address, &port, type, &preference, username, password) != 6)
    return NULL;
  NiceCandidate *candidate = nice_candidate_new(strcmp(type, "local") ? NICE_CANDIDATE_TYPE_SERVER_REFLEXIVE
                                                                      : NICE_CANDIDATE_TYPE_HOST);
  candidate->component_id = 1;
  candidate->stream_id = stream;
  candidate->transport = NICE_CANDIDATE_TRANSPORT_UDP;
  candidate->priority = (guint32)(preference * 1000);
  candidate->username = g_strdup(username);
  candidate->password = g_strdup(password);
  g_strlcpy(candidate->foundation, username, NICE_CANDIDATE_MAX_FOUNDATION);
  if (!nice_address_set_from_string(&candidate->addr, address)) return NULL;
  nice_address_set_port(&candidate->addr, port);
  return candidate;
}

static void hear(const char *line) {
  char ufrag[257], password[257], attribute[700];
  if (sscanf(line, "remote %256s %256s", ufrag, password) == 2) {
    since = g_get_monotonic_time();
    /* Google's candidates have their own, but without any it acts on no check. */
    nice_agent_set_remote_credentials(agent, stream, ufrag, password);
  } else if (!strncmp(line, "cand ", 5)) {
    NiceCandidate *candidate;
    if (!strncmp(line + 5, "google ", 7)) {
      candidate = parse_google(line + 12);
    } else {
      snprintf(attribute, sizeof attribute, "a=%s", line + 5);
      candidate = nice_agent_parse_remote_candidate_sdp(agent, stream, attribute);
    }
    if (!candidate) {
      say("refused %s", line);
      return;
    }
    GSList *list = g_slist_append(NULL, candidate);
    say("took %d", nice_agent_set_remote_candidates(agent, stream, 1, list));
    g_slist_free_full(list, (GDestroyNotify)nice_candidate_free);
    if (google) tell_all_google();
  } else if (!strcmp(line, "remote-done")) {
    nice_agent_peer_candidate_gathering_done(agent, stream);
  } else if (!strcmp(line, "start")) {
    g_timeout_add(1, send_next, NULL);
  } else if (!strcmp(line, "close")) {
    g_main_loop_quit(loop);
  }
}

static gboolean on_input(GIOChannel *channel, GIOCondition condition, gpointer unused) {
  (void)condition, (void)unused;
  gchar *line = NULL;
  gsize end;
  GIOStatus status = g_io_channel_read_line(channel, &line, NULL, &end, NULL);
  if (status == G_IO_STATUS_EOF) g_main_loop_quit(loop);
  if (status != G_IO_STATUS_NORMAL) return status == G_IO_STATUS_AGAIN;
  line[end] = 0;
  hear(line);
  g_free(line);
  return TRUE;
}

int main(int count, char **arguments) {
  static const struct option options[] = {
      {"controlling", no_argument, 0, 'c'}, {"regular", no_argument, 0, 'r'},    {"google", no_argument, 0, 'g'},
      {"send", required_argument, 0, 's'},  {"expect", required_argument, 0, 'e'}, {0, 0, 0, 0}};
  gboolean controlling = FALSE, regular = FALSE;
  int option;
  while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) switch (option) {
      case 'c': controlling = TRUE; break;
      case 'r': regular = TRUE; break;
      case 'g': google = TRUE; break;
      case 's': to_send = atol(optarg); break;
      case 'e': expected = atol(optarg); break;
      default: return 2;
    }
  loop = g_main_loop_new(NULL, FALSE);
  NiceAgentOption flags = regular ? NICE_AGENT_OPTION_REGULAR_NOMINATION : NICE_AGENT_OPTION_NONE;
  if (!google) flags |= NICE_AGENT_OPTION_ICE_TRICKLE;
  agent = nice_agent_new_full(g_main_loop_get_context(loop),
                              google ? NICE_COMPATIBILITY_GOOGLE : NICE_COMPATIBILITY_RFC5245, flags);
  g_object_set(agent, "controlling-mode", controlling, "upnp", FALSE, "ice-tcp", FALSE, NULL);
  NiceAddress loopback;
  nice_address_init(&loopback);
  nice_address_set_from_string(&loopback, "127.0.0.1");
  nice_agent_add_local_address(agent, &loopback);
  stream = nice_agent_add_stream(agent, 1);
  g_signal_connect(agent, "new-candidate-full", G_CALLBACK(on_candidate), NULL);
  g_signal_connect(agent, "candidate-gathering-done", G_CALLBACK(on_gathered), NULL);
  g_signal_connect(agent, "component-state-changed", G_CALLBACK(on_state), NULL);
  nice_agent_attach_recv(agent, stream, 1, g_main_loop_get_context(loop), on_received, NULL);
  gchar *ufrag = NULL, *password = NULL;
  nice_agent_get_local_credentials(agent, stream, &ufrag, &password);
  say("local %s %s", google ? "-" : ufrag, google ? "-" : password);
  GIOChannel *input = g_io_channel_unix_new(0);
  g_io_add_watch(input, G_IO_IN | G_IO_HUP, on_input, NULL);
  nice_agent_gather_candidates(agent, stream);
  g_main_loop_run(loop);
  g_object_unref(agent);
  return 0;
}
