// The Java client as a program, for tests of what other clients write and read.
//   Client produce BOOTSTRAP KEY TOPIC=CODEC...   each line of standard input becomes a record of each topic
//   Client consume BOOTSTRAP COUNT TOPIC...       prints so many records of each topic as "topic partition value", then ends with 0
//   Client joined BOOTSTRAP COUNT GROUP...        waits until the consumer groups are stable and have so many members each
//   Client grant BOOTSTRAP USER TYPE:NAME:OPERATION...   allows the user each of these (TYPE: topic, group)
// `kafka java Client.java …` compiles and runs it.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Client {
    private static final long PATIENCE_MS = 60_000;

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "produce" -> {
                List<String> lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)).lines().toList();
                for (String target : rest(arguments)) {
                    String[] parts = target.split("=");
                    produce(arguments[1], parts[0], arguments[2], parts[1], lines);
                }
            }
            case "consume" -> {
                for (String topic : rest(arguments)) consume(arguments[1], topic, Long.parseLong(arguments[2]));
            }
            case "joined" -> {
                for (String group : rest(arguments)) joined(arguments[1], group, Integer.parseInt(arguments[2]));
            }
            case "grant" -> grant(arguments[1], "User:" + arguments[2], rest(arguments));
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static List<String> rest(String[] arguments) {
        return List.of(arguments).subList(3, arguments.length);
    }

    private static void produce(String bootstrap, String topic, String key, String codec, List<String> lines) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "compression.type", codec, "linger.ms", 100);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (String line : lines) sent.add(producer.send(new ProducerRecord<>(topic, key, line)));
            for (Future<RecordMetadata> one : sent) one.get();
        }
    }

    private static void joined(String bootstrap, String group, int members) throws Exception {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            while (true) {
                String told;
                try {
                    ConsumerGroupDescription seen = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
                    if (seen.groupState() == GroupState.STABLE && seen.members().size() == members) return;
                    told = seen.toString();
                } catch (ExecutionException e) {
                    // Nobody has joined yet.
                    if (!(e.getCause() instanceof GroupIdNotFoundException)) throw e;
                    told = e.toString();
                }
                if (System.currentTimeMillis() > end) throw new IllegalStateException(told);
                // The interval of this bounded poll.
                Thread.sleep(50);
            }
        }
    }

    private static void grant(String bootstrap, String principal, List<String> grants) throws Exception {
        List<AclBinding> all = new ArrayList<>();
        for (String grant : grants) {
            String[] parts = grant.split(":");
            ResourcePattern what = new ResourcePattern(ResourceType.fromString(parts[0]), parts[1], PatternType.LITERAL);
            AclOperation operation = AclOperation.fromString(parts[2]);
            all.add(new AclBinding(what, new AccessControlEntry(principal, "*", operation, AclPermissionType.ALLOW)));
        }
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createAcls(all).all().get();
        }
    }

    private static void consume(String bootstrap, String topic, long count) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "check.crcs", true, "auto.offset.reset", "earliest");
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        long end = System.currentTimeMillis() + PATIENCE_MS;
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> all = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
            consumer.assign(all);
            consumer.seekToBeginning(all);
            for (long seen = 0; seen < count; ) {
                if (System.currentTimeMillis() > end) throw new IllegalStateException(seen + " of " + count + " records");
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    out.println(topic + " " + record.partition() + " " + record.value());
                    seen++;
                }
            }
        }
        out.flush();
    }
}
