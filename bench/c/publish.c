/* Publish N persistent, mandatory messages with confirms, at most WINDOW of them unconfirmed.
 * usage: publish HOST PORT VHOST EXCHANGE ROUTING_KEY N WINDOW
 * Prints the seconds from the first publish to the last confirm. */
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void die(const char *what) {
    fprintf(stderr, "publish: %s\n", what);
    exit(1);
}

static void expect(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) die(what);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 8) die("usage: publish HOST PORT VHOST EXCHANGE ROUTING_KEY N WINDOW");
    long total = atol(argv[6]), window = atol(argv[7]);
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    if (!socket || amqp_socket_open(socket, argv[1], atoi(argv[2]))) die("cannot connect");
    expect(amqp_login(connection, argv[3], 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"),
           "login");
    amqp_channel_open(connection, 1);
    expect(amqp_get_rpc_reply(connection), "channel");
    amqp_confirm_select(connection, 1);
    expect(amqp_get_rpc_reply(connection), "confirm.select");

    amqp_basic_properties_t properties;
    memset(&properties, 0, sizeof properties);
    properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG;
    properties.content_type = amqp_cstring_bytes("application/json");
    properties.delivery_mode = 2;
    char body[512], id[40];
    amqp_bytes_t exchange = amqp_cstring_bytes(argv[4]), key = amqp_cstring_bytes(argv[5]);
    struct timeval none = {0, 0}, long_enough = {30, 0};
    /* Single and multiple acks are mixed, so each tag is marked only once. All tags up to LOW are marked. */
    char *marked = calloc(total + 2, 1);
    long sent = 0, done = 0, low = 0;
    double began = now();
    while (done < total) {
        while (sent < total && sent - done < window) {
            sent++;
            snprintf(id, sizeof id, "%08lx-0000-4000-8000-000000000000", sent);
            int length = snprintf(body, sizeof body,
                                  "{\"order_id\": \"%s\", \"customer_email\": \"customer%06ld@example.com\", "
                                  "\"amount\": \"149.99\", \"currency\": \"USD\", \"region\": \"eu\", \"note\": \"%06ld\"}",
                                  id, sent % 1000000, sent % 1000000);
            properties.message_id = amqp_cstring_bytes(id);
            amqp_bytes_t bytes = {length, body};
            int status = amqp_basic_publish(connection, 1, exchange, key, 1, 0, &properties, bytes);
            if (status) die(amqp_error_string2(status));
            /* Read confirms after every 32 messages, so that neither side waits on a full socket. */
            if (sent % 32 == 0) break;
        }
        int may_wait = sent == total || sent - done >= window;
        for (;;) {
            amqp_frame_t frame;
            amqp_maybe_release_buffers(connection);
            int status = amqp_simple_wait_frame_noblock(connection, &frame, may_wait ? &long_enough : &none);
            if (status == AMQP_STATUS_TIMEOUT) {
                if (may_wait) die("no confirm within 30 s");
                break;
            }
            if (status != AMQP_STATUS_OK) die(amqp_error_string2(status));
            if (frame.frame_type != AMQP_FRAME_METHOD) continue;
            if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) die("returned, refused or closed");
            amqp_basic_ack_t *ack = frame.payload.method.decoded;
            long tag = (long)ack->delivery_tag;
            for (long one = ack->multiple ? low + 1 : tag; one <= tag; one++)
                if (!marked[one]) marked[one] = 1, done++;
            if (ack->multiple && tag > low) low = tag;
            may_wait = 0;
            if (done == total) break;
        }
    }
    printf("%.6f\n", now() - began);
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
    return 0;
}
