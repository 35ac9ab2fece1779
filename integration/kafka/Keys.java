// What the Java client makes of keys: reads lines "PARTITIONS KEY", the key in hexadecimal, and prints "HASH PARTITION" of each.
// `kafka java Keys.java` compiles and runs it.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

public class Keys {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        // All of it at the end: who feeds this reads nothing before everything is written.
        StringBuilder out = new StringBuilder();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            int space = line.indexOf(' ');
            byte[] key = HexFormat.of().parseHex(line.substring(space + 1));
            int partition = BuiltInPartitioner.partitionForKey(key, Integer.parseInt(line.substring(0, space)));
            out.append(Utils.murmur2(key)).append(' ').append(partition).append('\n');
        }
        System.out.print(out);
    }
}
