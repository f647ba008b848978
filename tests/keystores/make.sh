#!/bin/sh
# Makes these keystores, by Java's keytool and by OpenSSL. Their keys and passwords are made up and open nothing.
set -eu
cd "$(dirname "$0")"
rm -f -- *.jks *.jceks *.p12

new() { # FILE TYPE ALIAS KEYTOOL'S OTHER OPTIONS: a key pair and its self-signed certificate, for a hundred years
  file=$1 type=$2 alias=$3; shift 3
  keytool -genkeypair -keystore "$file" -storetype "$type" -storepass store-pass-1 -alias "$alias" -dname "CN=$alias,O=Contoso" \
    -validity 36500 -keyalg RSA -keysize 2048 "$@"
}
secret() { keytool -genseckey -keystore "$1" -storetype "$2" -storepass store-pass-1 -alias sealing -keyalg AES -keysize 256; }

new two-passwords.jks JKS Billing -keypass key-pass-1
new weak.jks JKS weak -keysize 1024
new expired.jks JKS expired -startdate 2020/01/01 -validity 365
new curve.jks JKS curve -keyalg EC -keysize 256

secret secret-key.jceks JCEKS
new secret-key.jceks JCEKS billing -keypass key-pass-1

secret several.jks PKCS12
for alias in billing support; do new several.jks PKCS12 $alias; done
new several.jks PKCS12 curve -keyalg EC -keysize 256

# A certificate that a CA signed, and the CA itself as somebody to trust.
new ca.tmp PKCS12 ca -ext bc:c
new chain.jks JKS billing
keytool -exportcert -rfc -keystore ca.tmp -storepass store-pass-1 -alias ca -file ca.pem.tmp
keytool -certreq -keystore chain.jks -storepass store-pass-1 -alias billing |
  keytool -gencert -rfc -keystore ca.tmp -storepass store-pass-1 -alias ca -validity 36500 > signed.pem.tmp
keytool -importcert -noprompt -keystore chain.jks -storepass store-pass-1 -alias trusted -file ca.pem.tmp
cat signed.pem.tmp ca.pem.tmp | keytool -importcert -noprompt -keystore chain.jks -storepass store-pass-1 -alias billing
cp ca.pem.tmp ca.only.tmp
keytool -importcert -noprompt -keystore trust.jks -storetype JKS -storepass store-pass-1 -alias trusted -file ca.only.tmp

# As older Windows and Java write PKCS #12: RC2 of 40 bits for certificates, triple DES for keys.
keytool -importkeystore -srckeystore chain.jks -srcstorepass store-pass-1 -srcalias billing -destkeystore two.tmp -deststoretype PKCS12 \
  -deststorepass store-pass-1
openssl pkcs12 -in two.tmp -passin pass:store-pass-1 -passout pass:store-pass-1 -out two.pem.tmp
openssl pkcs12 -export -legacy -in two.pem.tmp -passin pass:store-pass-1 -passout pass:store-pass-1 -name billing -out legacy.p12
openssl pkcs12 -export -in two.pem.tmp -passin pass:store-pass-1 -passout pass: -out no-password.p12
rm -f -- *.tmp
