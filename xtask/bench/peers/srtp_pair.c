/* A sender and a receiver of SRTP by libsrtp, to compare with.
 *
 *   srtp_pair cm|gcm PACKET_BYTES
 *
 * The master key is 16 bytes of 7, the salt bytes of 9; a packet is 0x80, 0, its number, and bytes of 5 up to its size, tag not
 * counted. First the packet with the number 1 is printed in hexadecimal, protected. Then, for each line of standard
 * input, packets are protected and unprotected for two milliseconds at least, and the CPU time of one is printed in nanoseconds.
 */
#include <srtp2/srtp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SAMPLE 2e6

static srtp_t sender, receiver;
static unsigned char buffer[4096];
static unsigned short number;
static int size;

static void must(srtp_err_status_t status, const char *what) {
  if (status == srtp_err_status_ok) return;
  fprintf(stderr, "libsrtp: %s failed with %d\n", what, status);
  exit(1);
}

static srtp_t session(const char *profile, srtp_ssrc_type_t direction) {
  static unsigned char key[16 + 14];
  srtp_policy_t policy;
  srtp_t session;
  memset(&policy, 0, sizeof policy);
  if (strcmp(profile, "gcm") == 0) {
    srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp);
    srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtcp);
  } else {
    srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtp);
    srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtcp);
  }
  memset(key, 7, 16);
  memset(key + 16, 9, 14);
  policy.ssrc.type = direction;
  policy.key = key;
  must(srtp_create(&session, &policy), "srtp_create");
  return session;
}

static int protect(void) {
  int length = size;
  number++;
  memset(buffer, 5, size);
  buffer[0] = 0x80;
  buffer[1] = 0;
  buffer[2] = number >> 8;
  buffer[3] = number & 255;
  must(srtp_protect(sender, buffer, &length), "srtp_protect");
  return length;
}

static void round_trip(void) {
  int length = protect();
  must(srtp_unprotect(receiver, buffer, &length), "srtp_unprotect");
  if (length != size) {
    fprintf(stderr, "libsrtp: %d bytes of %d came back\n", length, size);
    exit(1);
  }
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

static double sample(long calls) {
  double start = now();
  for (long i = 0; i < calls; i++) round_trip();
  return now() - start;
}

int main(int count, char **words) {
  char line[16];
  long calls = 1;
  if (count != 3 || (size = atoi(words[2])) < 12 || size > 2048) {
    fprintf(stderr, "srtp_pair cm|gcm PACKET_BYTES\n");
    return 2;
  }
  must(srtp_init(), "srtp_init");
  sender = session(words[1], ssrc_any_outbound);
  receiver = session(words[1], ssrc_any_inbound);
  int length = protect();
  for (int i = 0; i < length; i++) printf("%02x", buffer[i]);
  printf("\n");
  fflush(stdout);
  while (sample(calls) < SAMPLE) calls *= 2;
  while (fgets(line, sizeof line, stdin)) {
    printf("%f\n", sample(calls) / calls);
    fflush(stdout);
  }
  return 0;
}
