//! The example of RFC 7677, a client of our own making, and what is no message of one.

use super::*;

/// The password "pencil" with the salt and iterations of RFC 7677 §3.
fn rfc() -> Verifiers {
    let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let mut salted = [0; 32];
    let iterations = NonZeroU32::new(4096).unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, b"pencil", &mut salted);
    let stored = BASE64.encode(sha256(&mac(&salted, b"Client Key")));
    let server = BASE64.encode(mac(&salted, b"Server Key"));
    Verifiers::parse(&format!(
        "# fleet\n\nuser:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${stored}:{server}\n"
    ))
    .unwrap()
}

const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const OURS: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

#[test]
fn the_example_of_the_rfc() {
    let file = rfc();
    let (exchange, at, challenge) = Exchange::begin([&file].into_iter(), FIRST, OURS).unwrap();
    assert_eq!(at, 0);
    assert_eq!(
        challenge,
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let (principal, ours) = exchange.finish(last).unwrap();
    assert_eq!(&*principal.name, "user");
    assert_eq!(ours, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

/// What a client answers to a challenge.
fn answer(first_bare: &str, header: &str, challenge: &[u8], password: &str) -> String {
    let challenge = std::str::from_utf8(challenge).unwrap();
    let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
    let (nonce, salt) = (part("r="), BASE64.decode(part("s=")).unwrap());
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        part("i=").parse().unwrap(),
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let without_proof = format!("c={},r={nonce}", BASE64.encode(header));
    let said = format!("{first_bare},{challenge},{without_proof}");
    let client_key = mac(&salted, b"Client Key");
    let signature = mac(&sha256(&client_key), said.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    format!("{without_proof},p={}", BASE64.encode(proof))
}

/// Who is let in, or why nobody is.
fn login(files: &[&Verifiers], header: &str, bare: &str, password: &str) -> Result<(String, usize), &'static str> {
    let (exchange, at, challenge) = Exchange::begin(files.iter().copied(), format!("{header}{bare}").as_bytes(), OURS)?;
    let last = answer(bare, header, &challenge, password);
    exchange
        .finish(last.as_bytes())
        .map(|(principal, _)| (principal.name.to_string(), at))
}

#[test]
fn a_line_that_was_made_is_read_and_asked() {
    let line = entry("vin42", "s3cret", &[7; SALT]).unwrap();
    let other = entry("a,b=c", "x", &[8; SALT]).unwrap();
    let (first, second) = (
        Verifiers::parse(&line).unwrap(),
        Verifiers::parse(&format!("{other}\n{line}")).unwrap(),
    );
    let files = [&first, &second];
    assert_eq!(login(&files, "n,,", "n=vin42,r=abc", "s3cret"), Ok(("vin42".to_owned(), 0)));
    assert_eq!(login(&files, "y,,", "n=vin42,r=abc,x=more", "s3cret"), Ok(("vin42".to_owned(), 0)));
    assert_eq!(login(&files, "n,a=vin42,", "n=vin42,r=abc", "s3cret"), Ok(("vin42".to_owned(), 0)));
    assert_eq!(login(&files, "n,,", "n=a=2Cb=3Dc,r=abc", "x"), Ok(("a,b=c".to_owned(), 1)));
    assert_eq!(login(&files, "n,,", "n=vin42,r=abc", "S3cret"), Err("wrong_password"));
    assert_eq!(login(&files, "n,,", "n=vin43,r=abc", "s3cret"), Err("unknown_credentials"));
    assert_eq!(login(&[], "n,,", "n=vin42,r=abc", "s3cret"), Err("scram_without_file"));
}

#[test]
fn an_unknown_user_is_challenged_like_a_known_one() {
    let file = Verifiers::parse(&entry("vin42", "s3cret", &[7; SALT]).unwrap()).unwrap();
    let challenge = |user: &str| {
        let first = format!("n,,n={user},r=abc");
        let (_, _, challenge) = Exchange::begin([&file].into_iter(), first.as_bytes(), OURS).unwrap();
        String::from_utf8(challenge).unwrap()
    };
    assert_eq!(challenge("vin42").len(), challenge("vin43").len());
    assert_eq!(
        challenge("vin43"),
        challenge("vin43"),
        "each time, and on each instance, the same salt"
    );
    assert_ne!(challenge("vin43"), challenge("vin44"));
    assert!(challenge("vin43").ends_with(",i=16384"));
}

/// The salt that this file shows of a user, and whether it is the one that is made with this secret.
fn is_made_with(file: &str, user: &str, secret: &[u8]) -> bool {
    let file = Verifiers::parse(file).unwrap();
    let made = mac(secret, &[b"salt\0", user.as_bytes()].concat());
    *file.of(user).0.salt == made[..SALT]
}

#[test]
fn whose_line_is_the_first_cannot_tell_which_users_there_are() {
    let (mine, other) = (
        entry("vin42", "s3cret", &[7; SALT]).unwrap(),
        entry("vin43", "x", &[8; SALT]).unwrap(),
    );
    let own_key = Verifiers::parse(&mine).unwrap().of("vin42").0.server_key;
    let bare = format!("{mine}\n{other}\n");
    let salted = with_salts(bare.clone(), &[9; 32]);
    for file in [&bare, &salted] {
        assert!(!is_made_with(file, "vin44", &own_key));
    }
    let secret = format!("# salts: {}", BASE64.encode([9; 32]));
    assert!(is_made_with(&salted, "vin44", &sha256(secret.as_bytes())));
    assert!(is_made_with(&bare, "vin44", &sha256(bare.as_bytes())));
}

#[test]
fn a_comment_of_somebody_is_no_secret() {
    let line = entry("vin42", "s3cret", &[7; SALT]).unwrap();
    for comment in ["see wiki", "", "AAAA", &BASE64.encode([9; 31]), &BASE64.encode([9; 33])] {
        let bare = format!("# salts: {comment}\n{line}\n");
        assert!(is_made_with(&bare, "vin44", &sha256(bare.as_bytes())), "{comment}");
        let salted = with_salts(bare.clone(), &[9; 32]);
        let secret = format!("# salts: {}", BASE64.encode([9; 32]));
        assert_eq!(salted, format!("{secret}\n{bare}"));
        assert!(is_made_with(&salted, "vin44", &sha256(secret.as_bytes())), "{comment}");
    }
}

#[test]
fn salts_of_unknown_users_stay_when_others_come_and_differ_between_files() {
    let salt = |text: &str| Verifiers::parse(text).unwrap().of("vin44").0.salt;
    let line = |user| entry(user, "s3cret", &[7; SALT]).unwrap();
    let one = with_salts(line("vin42"), &[9; 32]);
    let two = with_salts(super::super::passwords::with_line(&one, "vin43", &line("vin43")), &[1; 32]);
    assert_eq!(Verifiers::parse(&two).unwrap().users.len(), 2);
    assert_eq!(two.matches(SALTS).count(), 1, "the secret stays");
    assert_eq!(salt(&one), salt(&two));
    assert_ne!(salt(&one), salt(&with_salts(line("vin42"), &[1; 32])));
}

#[test]
fn what_is_no_message_is_refused() {
    let file = rfc();
    for first in [
        &b""[..],
        b"n,,",
        b"n,,n=user",
        b"n,,n=user,r=",
        b"n,,n=,r=abc",
        b"n,,r=abc,n=user",
        b"n,,n=us=er,r=abc",
        b"n,,n=us=2cer,r=abc",
        b"n,,n=user,r=a\x01b",
        b"n,,n=us\ner,r=abc",
        b"n,,m=x,n=user,r=abc",
        b"n,a=other,n=user,r=abc",
        b"n,b,n=user,r=abc",
        b"p=tls-exporter,,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,,n=user,r=\xff",
        &[b"n,,n=user,r=".as_slice(), &[b'a'; 257]].concat(),
        &[b"n,,n=user,r=abc,x=".as_slice(), &[b'a'; 4096]].concat(),
    ] {
        let begun = Exchange::begin([&file].into_iter(), first, OURS).map(drop);
        assert_eq!(begun, Err("scram_malformed"), "{}", String::from_utf8_lossy(first));
    }
    let good = {
        let (_, _, challenge) = Exchange::begin([&file].into_iter(), FIRST, OURS).unwrap();
        answer("n=user,r=rOprNGfwEbeRWgbNEkqO", "n,,", &challenge, "pencil")
    };
    let finish = |last: &str| {
        let (exchange, _, _) = Exchange::begin([&file].into_iter(), FIRST, OURS).unwrap();
        exchange.finish(last.as_bytes()).map(drop)
    };
    assert_eq!(finish(&good), Ok(()));
    for (last, why) in [
        (String::new(), "scram_malformed"),
        (good.replace(",p=", ",q="), "scram_malformed"),
        (good.replace("c=biws", "c=eSws"), "scram_malformed"),
        (good.replace("r=rOpr", "r=rOps"), "scram_malformed"),
        (good.replace(",p=", ",m=x,p="), "scram_malformed"),
        (good[..good.len() - 4].to_owned(), "scram_malformed"),
        (good.replace(",p=", ",x=y,p="), "wrong_password"),
    ] {
        assert_eq!(finish(&last), Err(why), "{last}");
    }
}

#[test]
fn faults_of_a_file_tell_their_line_and_no_secret() {
    let good = entry("a", "b", &[1; SALT]).unwrap();
    for (text, words) in [
        ("\nnothing".to_owned(), "line 2 has no `:`"),
        ("a:plainpassword".to_owned(), "line 1: no verifier"),
        (good.replace("$16384:", "$4095:"), "4096 to 1000000 iterations"),
        (good.replace("$16384:", "$1000001:"), "4096 to 1000000 iterations"),
        (good.replace("SHA-256", "SHA-512"), "no verifier"),
        (good.replace("a:", ":"), "no legal name"),
        (format!("{good}\n{good}"), "second time"),
    ] {
        let fault = Verifiers::parse(&text).unwrap_err();
        assert!(fault.contains(words), "{text}: {fault}");
        assert!(!fault.contains("plainpassword"), "{fault}");
    }
    for (name, password) in [("", "b"), ("a:b", "b"), ("a", ""), ("a", "pä"), ("a", "b\t")] {
        assert!(entry(name, password, &[1; SALT]).is_err(), "{name} {password}");
    }
}
